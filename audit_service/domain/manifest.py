"""One way to write a value as bytes, so that a digest means the same everywhere."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that leaves the process: immutable, and unknown or mistyped fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """UTF-8 JSON with sorted keys, no white space, no NaN: equal values give equal bytes."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
