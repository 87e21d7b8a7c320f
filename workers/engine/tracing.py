"""Everything that one request for a trace asks for, as arrays by name."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit_service.domain.mediation import mediate
from audit_service.domain.plan import Corruption, Direction
from audit_service.domain.sites import SiteKind
from workers.engine import corruptions
from workers.engine.answers import answered, tails
from workers.engine.directions import Arrays, Measuring, Runs, key_of, planned_of
from workers.engine.distributions import READOUTS, log_probabilities, read_all
from workers.engine.donors import Recording, record
from workers.engine.lens import look
from workers.engine.positions import token_positions
from workers.engine.progress import Keep, Progress, StopCheck, kept_under, never_stop, no_progress
from workers.engine.requests import TEXTS, TraceRequest, require_sense
from workers.engine.subject import Subject
from workers.engine.sweep import free_pair
from workers.engine.tokens import EncodedPair


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
    require_sense(request)
    pair = free_pair(request.clean, request.corrupt)
    runs = _runs(subject, request, pair, should_stop=should_stop)
    planned = [planned_of(subject, request, pair, runs, direction) for direction in request.directions]
    arrays: Arrays = {"clean_tokens": np.array(request.clean), "corrupt_tokens": np.array(request.corrupt)}
    arrays |= _unpatched(subject, request, runs)
    for plan in planned:
        prefix = f"{plan.direction}." if len(planned) > 1 else ""
        work = Measuring(subject, request, plan, kept_under(keep, plan.direction), progress, should_stop)
        arrays |= {f"{prefix}{name}": cells for name, cells in work.arrays(arrays).items()}
    if len(planned) > 1:
        arrays |= _mediated(arrays, [found.name for found in planned[0].maps])
    for found in planned[0].maps[len(request.kinds) :]:
        arrays |= {"cells.names": np.array(found.rows)}
    if request.paths:
        arrays |= {"paths.names": np.array([name for route in planned[0].routes for name in route.names])}
    if request.lens:
        arrays |= _lens(subject, request, runs)
    return arrays


def _runs(subject: Subject, request: TraceRequest, pair: EncodedPair, *, should_stop: StopCheck) -> Runs:
    neurons = SiteKind.NEURONS in request.kinds or any(
        SiteKind.NEURONS in name for name in (*request.named, *request.paths)
    )

    def recorded(ids: Sequence[int]) -> Recording:
        return record(subject, ids, neurons=neurons, should_stop=should_stop)

    clean, kind = recorded(pair.clean.ids), request.corruption
    if kind in TEXTS:
        corrupted = [clean if request.clean == request.corrupt else recorded(pair.corrupt.ids)]
        return Runs(clean, corrupted, corrupted)
    at = token_positions(request.corrupted or "cue", pair.clean)
    if kind is Corruption.GAUSSIAN:
        seeds = range(request.seed, request.seed + request.draws)
        noisy = [corruptions.noised(subject, request.clean, at, seed=seed, should_stop=should_stop) for seed in seeds]
        return Runs(clean, noisy, noisy)
    if kind is Corruption.ZERO:
        return Runs(clean, [corruptions.blanked(subject, request.clean, at)], [corruptions.zeroed(clean)])
    average = corruptions.mean if kind is Corruption.MEAN else corruptions.positional_mean
    donor = average([clean, *map(recorded, request.others)])
    return Runs(clean, [corruptions.averaged(subject, request.clean, at)], [donor])


def _unpatched(subject: Subject, request: TraceRequest, runs: Runs) -> Arrays:
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
        key_of("", side, name): np.asarray(row[column])
        for side, row in means.items()
        for column, name in enumerate(names)
    }


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


def _lens(subject: Subject, request: TraceRequest, runs: Runs) -> Arrays:
    found: Arrays = {}
    for side, run in (("clean", runs.clean), ("corrupt", runs.corrupted[0])):
        seen = look(subject, run, request.labels)
        found |= {f"lens.{side}.{name}": cells for name, cells in seen._asdict().items()}
    return found
