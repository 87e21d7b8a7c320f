"""Shapes and dtypes in the engine's signatures are checked in every test."""

from jaxtyping import install_import_hook

install_import_hook("workers.engine", "beartype.beartype")
