"""Behaviors: the high-risk decisions that are audited, in versions."""
