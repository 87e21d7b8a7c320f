"""What happened to a run, as it happens."""
