"""What becomes of an activation: which part of it is changed, and into what.

A part reads coordinates from a row and writes others back, leaving the rest of the row alone; a value says what the
coordinates become. Without a part it is the whole row, without a value the donor's coordinates. So an exchange along a
direction, a steering vector on a head and an ablated feature are one computation:

    row <- row + write(value(read(row), read(donor's row)) - read(row))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audit_service.errors import InvalidTrace

Rows = Float[Tensor, "row width"]
Coordinates = Float[Tensor, "row coordinate"]


@runtime_checkable
class Part(Protocol):
    """Some coordinates of an activation."""

    def read(self, rows: Rows) -> Coordinates:
        """Take the coordinates of each row, in float32."""
        ...

    def write(self, rows: Rows, change: Coordinates) -> Rows:
        """Move each row by a change of its coordinates."""
        ...

    def require_width(self, width: int) -> None:
        """Raise InvalidTrace if rows of this width do not have these coordinates."""
        ...


Value = Callable[[Coordinates, Coordinates], Coordinates]
"""What coordinates become, from the run's own and the donor's."""


@dataclass(frozen=True, slots=True, eq=False)
class Neurons:
    """Single entries of a row, such as a group of an MLP's neurons."""

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.indices or len(set(self.indices)) != len(self.indices) or min(self.indices) < 0:
            raise InvalidTrace(
                f"{self.indices} names no group of neurons", remedy="name each neuron once, counted from 0"
            )

    def read(self, rows: Rows) -> Coordinates:
        return rows[:, list(self.indices)].float()

    def write(self, rows: Rows, change: Coordinates) -> Rows:
        wide = torch.zeros_like(rows, dtype=torch.float32)
        wide[:, list(self.indices)] = change
        return _moved(rows, wide)

    def require_width(self, width: int) -> None:
        if max(self.indices) >= width:
            raise InvalidTrace(
                f"there is no neuron {max(self.indices)} in an activation of {width}", remedy="use neurons that exist"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Subspace:
    """The component in the span of orthonormal directions; Geiger et al. 2024 (distributed interchange)."""

    basis: Float[Tensor, "rank width"]

    def __post_init__(self) -> None:
        gram = self.basis.double() @ self.basis.double().T
        if not torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype, device=gram.device), atol=1e-4):
            raise InvalidTrace(
                "the directions of the subspace are not orthonormal, so a component along them is not defined",
                remedy="orthonormalise them first, for instance with Subspace.spanned_by",
            )

    @classmethod
    def spanned_by(cls, vectors: Float[Tensor, "vector width"]) -> "Subspace":
        """The span of any vectors; InvalidTrace if they depend on each other."""
        _, singular, rows = torch.linalg.svd(vectors.double(), full_matrices=False)
        if len(vectors) > vectors.shape[1] or singular[-1] <= 1e-6 * singular[0]:
            raise InvalidTrace(
                "the vectors depend linearly on each other", remedy="give as many directions as the subspace has"
            )
        return cls(rows.float())

    def read(self, rows: Rows) -> Coordinates:
        return rows.float() @ self.basis.to(rows.device).float().T

    def write(self, rows: Rows, change: Coordinates) -> Rows:
        return _moved(rows, change @ self.basis.to(rows.device).float())

    def require_width(self, width: int) -> None:
        _require_equal(self.basis.shape[1], width, "directions")


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Chosen features of a sparse autoencoder; what it fails to reconstruct stays as it is (Marks et al. 2024).

    A feature is ReLU(x E + e), zero below its threshold where there are thresholds (JumpReLU); a change of features
    moves the activation along their decoder rows alone, so the autoencoder's error is kept.
    """

    encoder: Float[Tensor, "width feature"]
    bias: Float[Tensor, " feature"]
    """With the decoder's bias already taken off the input, where the autoencoder does that."""
    decoder: Float[Tensor, "feature width"]
    threshold: Float[Tensor, " feature"]
    """Zeros for a plain ReLU."""

    @classmethod
    def load(cls, path: Path, features: Sequence[int], *, centred: bool) -> "Features":
        """Chosen features from a safetensors file with W_enc, b_enc, W_dec, b_dec and, for JumpReLU, threshold.

        ``centred`` says that the autoencoder was trained on x - b_dec. Raises InvalidTrace for a file or feature that
        is not there.
        """
        tensors = load_tensors(path, ("W_enc", "b_enc", "W_dec", "b_dec"), optional=("threshold",))
        count = tensors["W_enc"].shape[-1]
        chosen = list(features)
        if not chosen or len(set(chosen)) != len(chosen) or not 0 <= min(chosen) <= max(chosen) < count:
            raise InvalidTrace(
                f"the autoencoder has {count} features, so {chosen} are none of them",
                remedy="name each feature once, counted from 0",
            )
        bias = tensors["b_enc"] - (tensors["b_dec"] @ tensors["W_enc"] if centred else 0)
        threshold = tensors.get("threshold", torch.zeros(count))
        return cls(tensors["W_enc"][:, chosen], bias[chosen], tensors["W_dec"][chosen], threshold[chosen])

    def read(self, rows: Rows) -> Coordinates:
        raw = rows.float() @ self.encoder.to(rows.device) + self.bias.to(rows.device)
        return torch.where(raw > self.threshold.to(rows.device), raw, 0).relu()

    def write(self, rows: Rows, change: Coordinates) -> Rows:
        return _moved(rows, change @ self.decoder.to(rows.device))

    def require_width(self, width: int) -> None:
        _require_equal(self.encoder.shape[0], width, "features")


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """The run's own coordinates times a factor: 0 takes them out, -1 turns them around."""

    factor: float

    def __post_init__(self) -> None:
        if self.factor == 1:
            raise InvalidTrace("scaling by 1 changes nothing", remedy="use another factor")

    def __call__(self, own: Coordinates, donors: Coordinates) -> Coordinates:  # noqa: ARG002 - needs no donor
        return own * self.factor


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """The run's own coordinates plus a vector: steering (Turner et al. 2023)."""

    vector: Float[Tensor, " coordinate"]

    def __post_init__(self) -> None:
        if not self.vector.any() or not torch.isfinite(self.vector).all():
            raise InvalidTrace("adding a vector of zeros changes nothing", remedy="give a finite vector that is not 0")

    def __call__(self, own: Coordinates, donors: Coordinates) -> Coordinates:  # noqa: ARG002 - needs no donor
        _require_equal(len(self.vector), own.shape[1], "added vector")
        return own + self.vector.to(own)


def donors_own(own: Coordinates, donors: Coordinates) -> Coordinates:  # noqa: ARG001 - a Value like the others
    """The donor's coordinates, put in where they stand in the network."""
    return donors


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A part and a value together, as an edit applies them."""

    part: Part | None
    value: Value | None

    def __call__(self, rows: Rows, donors: Rows) -> Rows:
        own, others = (rows.float(), donors.float()) if self.part is None else map(self.part.read, (rows, donors))
        wanted = others if self.value is None else self.value(own, others)
        return wanted.to(rows.dtype) if self.part is None else self.part.write(rows, wanted - own)


def load_tensors(path: Path, names: Sequence[str], *, optional: Sequence[str] = ()) -> dict[str, Tensor]:
    """Named float32 tensors of a safetensors file; InvalidTrace names what is missing."""
    try:
        with safe_open(path, framework="pt") as file:
            present = set(file.keys())
            found = {name: file.get_tensor(name).float() for name in (*names, *optional) if name in present}
    except (OSError, SafetensorError) as error:
        raise InvalidTrace(f"{path} cannot be read: {error}", remedy="give a safetensors file") from error
    if missing := [name for name in names if name not in found]:
        raise InvalidTrace(
            f"{path.name} lacks {', '.join(missing)}; it has {', '.join(sorted(present))}",
            remedy="save the tensors under these names",
        )
    return found


def _moved(rows: Rows, by: Float[Tensor, "row width"]) -> Rows:
    return (rows.float() + by).to(rows.dtype)


def _require_equal(given: int, width: int, what: str) -> None:
    if given != width:
        raise InvalidTrace(
            f"the {what} have {given} entries, the activation has {width}", remedy="make them for this site"
        )
