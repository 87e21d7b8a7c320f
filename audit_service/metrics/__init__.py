"""Metrics: the readings of the model's output, built in and registered."""
