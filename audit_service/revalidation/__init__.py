"""Accepted runs, and their repetition on other versions of the model."""
