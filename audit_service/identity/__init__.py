"""Who asks, for which organisation, and what they may do."""
