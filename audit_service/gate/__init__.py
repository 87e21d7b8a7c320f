"""The gate of a pipeline: audit a model, compare it with a former version, and let it pass or not."""
