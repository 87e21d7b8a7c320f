"""Responses: what management answers to the findings of a run."""
