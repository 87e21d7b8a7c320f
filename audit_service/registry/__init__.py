"""Models and their versions, by the digest of their files."""
