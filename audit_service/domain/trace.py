"""A trace: the measured cells of a shard, as arrays with a digest."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from audit_service.domain.manifest import Frozen


class Control(Frozen):
    """A check that every run carries (METHOD.md section 5)."""

    name: str
    measured: float
    """Largest deviation seen, in nats."""
    tolerance: float
    passed: bool


class Measured(Frozen):
    """How the cells came about: what another machine needs to repeat them."""

    device: str
    dtype: str
    """The number format that was computed in, and how the weights were packed where they were in fewer bits."""
    torch: str
    transformers: str
    threads: int
    attention: str
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True)
class DecisionCells:
    """Decision values of a shard's pairs; axis 1 is (reference, comparison)."""

    d: NDArray[np.float32]
    """[pair, side] log-odds in nats."""
    log_p_favorable: NDArray[np.float32]
    """[pair, side] log of the summed probability of the favorable labels."""
    log_p_unfavorable: NDArray[np.float32]
    """[pair, side]"""
    readouts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Name → [pair, side]: what else the plan's metrics are read from, such as "log_p_of_low"."""


@dataclass(frozen=True, slots=True)
class EffectCells:
    """Patched decision values of a shard's pairs in one direction."""

    d_clean: NDArray[np.float32]
    """[pair] reference prompt, unpatched."""
    d_corrupt: NDArray[np.float32]
    """[pair] comparison prompt, unpatched."""
    patched: NDArray[np.float32]
    """[pair, site] decision value with the donor's activation put in, sites in the plan's order.
    Denoising: effect = patched - d_corrupt. Noising: effect = patched - d_clean."""
    readouts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Name → [pair, site + 2]: what else was read in the same runs, and last in the clean and in the corrupt run."""


@dataclass(frozen=True)
class Trace:
    """The cells of one shard as bytes that are equal for equal cells."""

    payload: bytes
    """safetensors; the arrays of DecisionCells or EffectCells by field name, the readouts by their own."""

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()

    @classmethod
    def of(cls, cells: DecisionCells | EffectCells) -> "Trace":
        own = {one.name: getattr(cells, one.name) for one in fields(cells) if one.name != "readouts"}
        arrays = own | {f"{READOUT}{name}": array for name, array in cells.readouts.items()}
        return cls(save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}))

    def decisions(self) -> DecisionCells:
        return DecisionCells(**_parted(load(self.payload)))

    def effects(self) -> EffectCells:
        return EffectCells(**_parted(load(self.payload)))


READOUT = "readout."
"""What the names of readouts begin with in the payload."""


def _parted(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """The fields by name, the readouts as one of them."""
    own = {name: array for name, array in arrays.items() if not name.startswith(READOUT)}
    return own | {"readouts": {name.removeprefix(READOUT): arrays[name] for name in arrays if name not in own}}
