"""A trace: the measured cells of a shard, as arrays with a digest."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

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


@dataclass(frozen=True)
class Trace:
    """The cells of one shard as bytes that are equal for equal cells."""

    payload: bytes
    """safetensors; the arrays of DecisionCells or EffectCells by field name."""

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()

    @classmethod
    def of(cls, cells: DecisionCells | EffectCells) -> "Trace":
        arrays = {name: np.ascontiguousarray(getattr(cells, name)) for name in sorted(cells.__slots__)}
        return cls(save(arrays))

    def decisions(self) -> DecisionCells:
        return DecisionCells(**load(self.payload))

    def effects(self) -> EffectCells:
        return EffectCells(**load(self.payload))
