"""What a run found: its verdict, numbers, effects and measured cells."""
