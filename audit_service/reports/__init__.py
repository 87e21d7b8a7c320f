"""Rendered reports, to be downloaded."""
