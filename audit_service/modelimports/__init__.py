"""Model versions that come from another registry."""
