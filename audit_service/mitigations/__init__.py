"""Mitigations: measures against findings, and what a run before and a run after show of them."""
