"""One trace of two texts as somebody asks for it on the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from audit_service.domain.labels import LabelTokens
from audit_service.domain.plan import Corruption, Direction, Mapping
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine.attribution import Estimator
from workers.engine.changes import Add, Features, Neurons, Part, Scale, Subspace, Value, load_tensors


class Screening(NamedTuple):
    """Maps that are estimated, of which only some cells are patched."""

    estimator: Estimator
    top: int
    """Cells with the largest estimates that are patched."""
    sample: int
    """Others that are, drawn at random, to bound what was missed."""
    threshold: float
    """Effect in nats that would be worth finding."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """What is asked for; token ids, not texts."""

    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    """The clean ids again where no corrupt text is needed."""
    labels: LabelTokens
    kinds: tuple[SiteKind, ...]
    named: tuple[str, ...] = ()
    """Single cells by name; asking for one that cannot change anything is an error, unless * stands for it."""
    paths: tuple[str, ...] = ()
    """Senders and receivers by name."""
    freeze_mlps: bool = False
    """Hold the MLPs between the two still as well."""
    screening: Screening | None = None
    directions: tuple[Direction, ...] = (Direction.DENOISE,)
    segments: tuple[str, ...] | None = None
    """Columns of the maps; every token if there are none."""
    window: int = 1
    corruption: Corruption = Corruption.PAIR
    """Denoising from a mean or from zero embeds the corrupted tokens as the vocabulary's mean or as zeros; noising sets
    the sites themselves, to the mean over the clean and the other texts or to zero."""
    corrupted: str | None = None
    """Segment or tokens that noise or another embedding goes on; the cue if there is none."""
    draws: int = 1
    seed: int = 0
    others: tuple[tuple[int, ...], ...] = ()
    """Further texts, for means and resampling."""
    part: Part | None = None
    value: Value | None = None
    mapping: Mapping = Mapping.RIGHT_ALIGNED
    all_readouts: bool = False
    losses: bool = False
    lens: bool = False


def part_of(text: str) -> Part:
    """``neurons:3,17``, ``subspace:FILE`` (tensor ``basis``) or ``features:FILE:3,17[:centred]``."""
    kind, _, rest = text.partition(":")
    try:
        if kind == "neurons":
            return Neurons(tuple(map(int, rest.split(","))))
        if kind == "subspace":
            return Subspace(load_tensors(Path(rest), ("basis",))["basis"])
        if kind == "features":
            centred = rest.endswith(":centred")
            path, _, numbers = rest.removesuffix(":centred").rpartition(":")
            return Features.load(Path(path), list(map(int, numbers.split(","))), centred=centred)
    except ValueError as error:
        raise InvalidTrace(f"{text!r}: {error}", remedy="separate whole numbers by commas") from error
    raise InvalidTrace(f"{text!r} names no part", remedy="use neurons:3,17, subspace:FILE or features:FILE:3,17")


def value_of(text: str) -> Value | None:
    """``donor``, ``zero``, ``scale:0.5`` or ``add:FILE`` (tensor ``vector``)."""
    kind, _, rest = text.partition(":")
    try:
        match kind:
            case "donor":
                return None
            case "zero":
                return Scale(0)
            case "scale":
                return Scale(float(rest))
            case "add":
                return Add(load_tensors(Path(rest), ("vector",))["vector"])
    except ValueError as error:
        raise InvalidTrace(f"{text!r}: {error}", remedy="give a number, as in scale:0.5") from error
    raise InvalidTrace(f"{text!r} names no value", remedy="use donor, zero, scale:0.5 or add:FILE")


def require_sense(request: TraceRequest) -> None:
    if request.corruption in TEXTS and request.value is None and request.clean == request.corrupt:
        raise InvalidTrace(
            "the clean and the corrupt prompt have the same tokens, so no patch could change anything",
            remedy="give two texts that this model's tokenizer tells apart, another corruption, or a value",
        )
    if request.corruption in _AVERAGES and not request.others:
        raise InvalidTrace(f"{request.corruption} needs other texts to average", remedy="give some with --other")
    if not request.kinds and not request.named and not request.paths:
        raise InvalidTrace("no site is asked for", remedy="name kinds with --sites, single cells with --at, or --path")
    if request.paths and (request.all_readouts or request.part is not None or request.value is not None):
        raise InvalidTrace(
            "a path hands on whole activations of the donor, and d alone is read",
            remedy="ask for paths without --readouts, --part and --value",
        )
    if request.screening is not None:
        _require_screening(request)
    if request.losses and not request.named:
        raise InvalidTrace(
            "losses are read of single cells, not of whole maps",
            remedy="name the cells with --at, as in mlp_out.L3.cue",
        )


def _require_screening(request: TraceRequest) -> None:
    if not request.kinds or request.window > 1 or request.draws > 1 or request.all_readouts:
        raise InvalidTrace(
            "screening estimates d of whole maps of single layers, of one draw",
            remedy="give it --sites, and neither --window, --draws nor --readouts",
        )


TEXTS = frozenset({Corruption.PAIR, Corruption.RESAMPLE})
"""Corruptions whose corrupt side is a text."""
_AVERAGES = frozenset({Corruption.MEAN, Corruption.POSITIONAL_MEAN})
