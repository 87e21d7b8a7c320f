"""One trace of two texts as somebody asks for it on the command line, and its arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.labels import LabelTokens
from audit_service.domain.mediation import mediate
from audit_service.domain.plan import Corruption, Direction, Mapping
from audit_service.domain.sites import SiteKind
from audit_service.errors import InvalidTrace
from workers.engine import corruptions
from workers.engine.answers import answered, tails
from workers.engine.changes import Add, Features, Neurons, Part, Scale, Subspace, Value, load_tensors
from workers.engine.distributions import READOUTS, log_probabilities, read_all
from workers.engine.donors import Recording, record
from workers.engine.lens import look
from workers.engine.losses import next_token_log_p
from workers.engine.placing import require_change
from workers.engine.positions import token_positions
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.subject import Subject
from workers.engine.sweep import Asked, Keep, Map, cells_named, free_pair, map_of, measure
from workers.engine.tokens import EncodedPair

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """What is asked for; token ids, not texts."""

    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    """The clean ids again where no corrupt text is needed."""
    labels: LabelTokens
    kinds: tuple[SiteKind, ...]
    named: tuple[str, ...] = ()
    """Single cells by name; asking for one that cannot change anything is an error."""
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


def run_request(
    subject: Subject,
    request: TraceRequest,
    *,
    keep: Keep,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Arrays:
    """All arrays that are asked for, by name; values in nats.

    Raises InvalidTrace for anything that cannot be traced, before the first cell, and Cancelled when asked to stop.
    """
    _require_sense(request)
    pair = free_pair(request.clean, request.corrupt)
    runs = _runs(subject, request, pair, should_stop=should_stop)
    planned = [_planned(subject, request, pair, runs, direction) for direction in request.directions]
    arrays: Arrays = {"clean_tokens": np.array(request.clean), "corrupt_tokens": np.array(request.corrupt)}
    arrays |= _unpatched(subject, request, runs)
    for direction, maps, sides in planned:
        prefix = f"{direction}." if len(planned) > 1 else ""
        found = measure(
            subject,
            sides,
            maps,
            labels=request.labels,
            all_readouts=request.all_readouts,
            keep=partial(_kept, keep, direction),
            progress=progress,
            should_stop=should_stop,
        )
        arrays |= {
            _key(prefix, name, readout): cells for name, read in found.items() for readout, cells in read.items()
        }
        if request.losses:
            arrays |= _losses(subject, maps[-1], sides, prefix, should_stop=should_stop)
    if len(planned) > 1:
        arrays |= _mediated(arrays, [found.name for found in planned[0][1]])
    if request.lens:
        arrays |= _lens(subject, request, runs)
    return arrays


def _kept(
    keep: Keep, direction: Direction, name: str, compute: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    return keep(f"{direction}.{name}", compute)


def _key(prefix: str, name: str, readout: str) -> str:
    return f"{prefix}{name}" if readout == "d" else f"{prefix}{name}.{readout}"


class _Runs(NamedTuple):
    """The runs that all maps are made from."""

    clean: Recording
    corrupted: list[Recording]
    """One for each draw of noise."""
    ablated: list[Recording]
    """What noising puts into the clean run: the corrupted runs, or a donor without a run of its own."""


def _runs(subject: Subject, request: TraceRequest, pair: EncodedPair, *, should_stop: StopCheck) -> _Runs:
    neurons = SiteKind.NEURONS in request.kinds or any(SiteKind.NEURONS in name for name in request.named)

    def recorded(ids: Sequence[int]) -> Recording:
        return record(subject, ids, neurons=neurons, should_stop=should_stop)

    clean, kind = recorded(pair.clean.ids), request.corruption
    if kind in _TEXTS:
        corrupted = [clean if request.clean == request.corrupt else recorded(pair.corrupt.ids)]
        return _Runs(clean, corrupted, corrupted)
    at = token_positions(request.corrupted or "cue", pair.clean)
    if kind is Corruption.GAUSSIAN:
        seeds = range(request.seed, request.seed + request.draws)
        noisy = [corruptions.noised(subject, request.clean, at, seed=seed, should_stop=should_stop) for seed in seeds]
        return _Runs(clean, noisy, noisy)
    if kind is Corruption.ZERO:
        return _Runs(clean, [corruptions.blanked(subject, request.clean, at)], [corruptions.zeroed(clean)])
    average = corruptions.mean if kind is Corruption.MEAN else corruptions.positional_mean
    donor = average([clean, *map(recorded, request.others)])
    return _Runs(clean, [corruptions.averaged(subject, request.clean, at)], [donor])


def _planned(
    subject: Subject, request: TraceRequest, pair: EncodedPair, runs: _Runs, direction: Direction
) -> tuple[Direction, list[Map], list[tuple[Recording, Recording]]]:
    """The maps of one direction, and (recipient, donor) of each draw; InvalidTrace for what cannot be traced."""
    other = pair.corrupt if request.corruption in _TEXTS else pair.clean
    denoise = direction is Direction.DENOISE
    asked = Asked(
        *((other, pair.clean) if denoise else (pair.clean, other)), request.mapping, request.part, request.value
    )
    sides = [(run, runs.clean) for run in runs.corrupted] if denoise else [(runs.clean, run) for run in runs.ablated]
    maps = [map_of(subject, kind, asked, segments=request.segments, window=request.window) for kind in request.kinds]
    if request.named:
        maps.append(cells_named(request.named, asked))
        for exchanges in maps[-1].sets:
            require_change(subject.anatomy, exchanges, *sides[0])
    return direction, maps, sides


def _require_sense(request: TraceRequest) -> None:
    if request.corruption in _TEXTS and request.value is None and request.clean == request.corrupt:
        raise InvalidTrace(
            "the clean and the corrupt prompt have the same tokens, so no patch could change anything",
            remedy="give two texts that this model's tokenizer tells apart, another corruption, or a value",
        )
    if request.corruption in _AVERAGES and not request.others:
        raise InvalidTrace(f"{request.corruption} needs other texts to average", remedy="give some with --other")
    if not request.kinds and not request.named:
        raise InvalidTrace("no site is asked for", remedy="name kinds with --sites, or single cells with --at")
    if request.losses and not request.named:
        raise InvalidTrace(
            "losses are read of single cells, not of whole maps",
            remedy="name the cells with --at, as in mlp_out.L3.cue",
        )


_TEXTS = frozenset({Corruption.PAIR, Corruption.RESAMPLE})
"""Corruptions whose corrupt side is a text."""
_AVERAGES = frozenset({Corruption.MEAN, Corruption.POSITIONAL_MEAN})


def _unpatched(subject: Subject, request: TraceRequest, runs: _Runs) -> Arrays:
    """D of both sides, and their other readouts, each against the other side; the mean over draws."""
    clean, *corrupted = (tails(answered(subject, run, request.labels)) for run in (runs.clean, *runs.corrupted))
    found: dict[str, list[NDArray[np.float32]]] = {"clean": [], "corrupt": []}
    for rows in corrupted:
        for name, own, others in (("clean", clean, rows), ("corrupt", rows, clean)):
            read = read_all(subject, own, request.labels, donor=log_probabilities(subject, others))
            found[name].append(read[0].cpu().numpy())
    names = READOUTS if request.all_readouts else READOUTS[:1]
    means = {side: np.stack(rows).mean(axis=0) for side, rows in found.items()}
    return {
        _key("", side, name): np.asarray(row[column])
        for side, row in means.items()
        for column, name in enumerate(names)
    }


def _losses(
    subject: Subject,
    cells: Map,
    sides: Sequence[tuple[Recording, Recording]],
    prefix: str,
    *,
    should_stop: StopCheck,
) -> Arrays:
    """Log-probability of each next token in the runs of the named cells, and in the unpatched one; means over draws."""
    found = [next_token_log_p(subject, *side, [*cells.sets, ()], should_stop=should_stop) for side in sides]
    table = np.stack(found).mean(axis=0)
    return {f"{prefix}cells.next_token_log_p": table[:-1], f"{prefix}unpatched.next_token_log_p": table[-1]}


def _mediated(arrays: Arrays, names: Sequence[str]) -> Arrays:
    """Vig's effects of every map, from both directions."""
    found: Arrays = {}
    for name in names:
        effects = mediate(
            arrays[f"{Direction.DENOISE}.{name}"].astype(np.float32),
            arrays[f"{Direction.NOISE}.{name}"].astype(np.float32),
            d_clean=float(arrays["clean"]),
            d_corrupt=float(arrays["corrupt"]),
        )
        found |= {f"direct.{name}": effects.direct, f"indirect.{name}": effects.indirect}
    return found | {"total": np.asarray(effects.total, np.float32)}


def _lens(subject: Subject, request: TraceRequest, runs: _Runs) -> Arrays:
    found: Arrays = {}
    for side, run in (("clean", runs.clean), ("corrupt", runs.corrupted[0])):
        seen = look(subject, run, request.labels)
        found |= {f"lens.{side}.{name}": cells for name, cells in seen._asdict().items()}
    return found
