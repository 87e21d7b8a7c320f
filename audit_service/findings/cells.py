"""Measured cells as files: the stored safetensors bytes, or the same arrays for numpy with their axes named."""

import io
from enum import StrEnum

import numpy as np
from safetensors.numpy import load

from audit_service.db.tables import ShardRow
from audit_service.domain.plan import Plan, ShardKind


class CellFormat(StrEnum):
    NPZ = "npz"
    SAFETENSORS = "safetensors"


def npz(payload: bytes, *, shard: ShardRow, plan: Plan) -> bytes:
    """The arrays by name, with ``pair_ids`` naming axis 0 and, for effects, ``sites`` naming axis 1 of ``patched``."""
    arrays = load(payload) | {"pair_ids": np.array(shard.pair_ids)}
    if shard.kind is ShardKind.EFFECTS:
        arrays["sites"] = np.array([site.key for site in plan.sites])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
