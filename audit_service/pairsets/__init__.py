"""Pair sets: uploaded or generated prompt pairs, and their preview on a model."""
