"""Circuits: the edges that carry a decision, proposed by estimates and judged by exact runs.

``edge_scores`` is an approximation (edge attribution patching, Syed et al. 2023, or with integrated gradients, Hanna et
al. 2024) and only ranks edges. What is said of a circuit is measured: its faithfulness at every size, what each of its
edges does, and whether the rest does without it. All values are sums over contrasts, so normalised ones are ratios of
means.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit_service.errors import InvalidTrace
from workers.engine.progress import Progress, StopCheck, never_stop, no_progress
from workers.engine.screening import drawn_from, missed_at_most
from workers.engine.wiring import Contrast, Whole

Edges = NDArray[np.bool_]
"""[reader, sender], or [circuit, reader, sender]."""
SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of all edges at which faithfulness is measured (Mueller et al. 2025, MIB)."""
PRUNED_AT_ONCE = 16
"""Removals tried together in one batch of runs."""


class Curve(NamedTuple):
    """Faithfulness of the circuits made of the highest-scored edges."""

    edges: NDArray[np.intp]
    """[size] how many."""
    faithfulness: NDArray[np.float64]
    """[size] (m(C) - m(0)) / (m(N) - m(0)), where 0 is the corrupt run and N the whole model."""
    cpr: float
    """Area under it over the share of edges, from no edge (0 by definition) to all (1 by definition)."""
    cmd: float
    """Area between it and 1."""


class Pruned(NamedTuple):
    """What is left of the highest-scored edges when all that can be spared one after another are taken out."""

    circuit: Edges
    """[reader, sender]"""
    faithfulness: float
    accounts_for: NDArray[np.float64]
    """[edge, in reading order] minimality: the faithfulness that is lost with the edge."""
    incompleteness: NDArray[np.float64]
    """[1 + draws] faithfulness by which model and circuit differ without all edges, and without random halves."""


class Verified(NamedTuple):
    """Exact effects of single edges in the whole model: of the highest-scored ones and of a sample of the rest."""

    edges: NDArray[np.intp]
    """[verified] numbers among all edges, in reading order of [reader, sender]."""
    effects: NDArray[np.float64]
    """[verified] mean change of d when this edge alone carries the corrupt run's activation, in nats."""
    sampled: int
    """How many of them, at the end, are the random sample."""
    missed_at_most: int
    """Upper confidence bound on how many unverified edges have an effect of at least the threshold."""


def edge_scores(
    contrasts: Sequence[Contrast], *, steps: int = 1, should_stop: StopCheck = never_stop
) -> NDArray[np.float64]:
    """Estimate [reader, sender] of the mean change of d when one edge carries the corrupt activation, in nats.

    The gradient of d is taken at the clean prompt (one step), or averaged over embeddings on the way from the corrupt
    to the clean prompt (more steps: integrated gradients). 0 where there is no edge.
    """
    if steps < 1:
        raise InvalidTrace(
            f"{steps} steps are no path", remedy="use one step, or five or more for integrated gradients"
        )
    scores = np.array([each.keep(f"scores.{steps}", partial(_scores, each, steps, should_stop)) for each in contrasts])
    means: NDArray[np.float64] = scores.mean(axis=0)
    return means


def _scores(contrast: Contrast, steps: int, should_stop: StopCheck) -> NDArray[np.float64]:
    change = (contrast.corrupt_sent - contrast.clean_sent).flatten(1).float()
    found = np.zeros(contrast.graph.edges.shape)
    for step in range(steps, 0, -1):
        gradients = _gradients(contrast, step / steps, should_stop)
        found += (gradients.flatten(1).float() @ change.T).double().cpu().numpy() / steps
    return np.where(contrast.graph.edges, found, 0.0)


def _gradients(contrast: Contrast, share: float, should_stop: StopCheck) -> Tensor:
    """Gradient of d [reader, position, width] by what each reader hears, at a mixture of both prompts' embeddings."""
    hidden = torch.lerp(contrast.corrupt.hidden, contrast.clean.hidden, share)[None].requires_grad_()
    streams = Whole()
    with torch.enable_grad():
        end = contrast.wiring.run(streams, hidden, should_stop=should_stop)
        found = torch.autograd.grad(contrast.read(end).sum(), streams.heard)
    return torch.cat(found, 1)[0]


def largest(scores: NDArray[np.float64], edges: Edges, count: int) -> Edges:
    """The edges with the largest scores by magnitude."""
    magnitude = np.where(edges, np.abs(scores), -1.0).ravel()
    circuit = np.zeros(magnitude.size, dtype=np.bool_)
    circuit[np.argsort(-magnitude, kind="stable")[: min(count, int(edges.sum()))]] = True
    return circuit.reshape(edges.shape)


def faithfulness(
    contrasts: Sequence[Contrast],
    circuits: Edges,
    *,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> NDArray[np.float64]:
    """(m(C) - m(0)) / (m(N) - m(0)) of each circuit [circuit, reader, sender], the ratio of sums over contrasts."""
    gained, whole = np.zeros(len(circuits)), 0.0
    for done, contrast in enumerate(contrasts, start=1):
        gained += contrast.decisions(circuits, should_stop=should_stop) - contrast.d_corrupt
        whole += contrast.d_clean - contrast.d_corrupt
        progress(done, len(contrasts), 0.0)
    if abs(whole) < 1e-6 * len(contrasts):
        raise InvalidTrace(
            "the clean and the corrupt prompts have the same decision values, so faithfulness is undefined",
            remedy="use pairs between which the model's answer differs",
        )
    return gained / whole


def curve(
    contrasts: Sequence[Contrast],
    scores: NDArray[np.float64],
    *,
    sizes: Sequence[float] = SIZES,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Curve:
    """Faithfulness over circuit sizes, given as shares of all edges."""
    edges = contrasts[0].graph.edges
    counts = [max(1, round(size * int(edges.sum()))) for size in sizes]
    circuits = np.stack([largest(scores, edges, count) for count in counts])
    found = faithfulness(contrasts, circuits, progress=progress, should_stop=should_stop)
    shares, values = np.array([0.0, *sizes]), np.array([0.0, *found])
    return Curve(
        np.array(counts), found, float(np.trapezoid(values, shares)), float(np.trapezoid(np.abs(1 - values), shares))
    )


def prune(
    contrasts: Sequence[Contrast],
    circuit: Edges,
    *,
    threshold: float,
    order: NDArray[np.float64] | None = None,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Edges:
    """Take out, one after another, each edge whose removal moves d by less than the threshold (nats, mean of |change|).

    ACDC (Conmy et al. 2023): from the answer backwards, readers in turn; within a reader the lowest ``order`` first.
    Removals are tried in batches that assume that each succeeds; the batch is cut at the first that does not, so the
    result is that of trying one at a time.
    """
    circuit = circuit.copy()
    now = _decisions(contrasts, circuit[None], should_stop)[:, 0]
    waiting = _backwards(circuit, order)
    total = len(waiting)
    while waiting:
        batch = waiting[:PRUNED_AT_ONCE]
        tried = np.repeat(circuit[None], len(batch), axis=0)
        for number, edge in enumerate(batch):
            tried[number:, *edge] = False
        values = np.column_stack([now, _decisions(contrasts, tried, should_stop)])
        moved = np.abs(np.diff(values, axis=1)).mean(axis=0)
        gone = next((number for number, each in enumerate(moved) if each >= threshold), len(batch))
        for edge in batch[:gone]:
            circuit[edge] = False
        now = values[:, gone]
        waiting = waiting[gone + (gone < len(batch)) :]
        progress(total - len(waiting), total, float(moved[:gone].max(initial=0.0)))
    return circuit


def pruned(
    contrasts: Sequence[Contrast],
    scores: NDArray[np.float64],
    *,
    among: int,
    threshold: float,
    seed: int = 0,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Pruned:
    """``prune`` the ``among`` highest-scored edges, and measure what is left; InvalidTrace if nothing is."""
    highest = largest(scores, contrasts[0].graph.edges, among)
    found = prune(contrasts, highest, threshold=threshold, order=scores, progress=progress, should_stop=should_stop)
    if not found.any():
        raise InvalidTrace(
            f"no edge among the {among} highest-scored moves d by {threshold:g} nats, so pruning leaves none",
            remedy="prune by less, or among more edges",
        )
    whole = float(faithfulness(contrasts, found[None], should_stop=should_stop)[0])
    accounts_for = minimality(contrasts, found, should_stop=should_stop)
    return Pruned(found, whole, accounts_for, incompleteness(contrasts, found, seed=seed, should_stop=should_stop))


def _backwards(circuit: Edges, order: NDArray[np.float64] | None) -> list[tuple[int, int]]:
    rank = np.zeros(circuit.shape) if order is None else np.abs(order)
    edges = [(int(reader), int(sender)) for reader, sender in zip(*np.nonzero(circuit), strict=True)]
    return sorted(edges, key=lambda edge: (-edge[0], rank[edge], edge[1]))


def minimality(
    contrasts: Sequence[Contrast], circuit: Edges, *, should_stop: StopCheck = never_stop
) -> NDArray[np.float64]:
    """How much faithfulness each edge [edge, in reading order] of a circuit accounts for: f(C) - f(C without it)."""
    without = _without_each(circuit, np.flatnonzero(circuit))
    found = faithfulness(contrasts, np.concatenate([circuit[None], without]), should_stop=should_stop)
    accounted: NDArray[np.float64] = found[0] - found[1:]
    return accounted


def incompleteness(
    contrasts: Sequence[Contrast], circuit: Edges, *, draws: int = 8, seed: int = 0, should_stop: StopCheck = never_stop
) -> NDArray[np.float64]:
    """|f(C without K) - f(N without K)| for K = C and for random halves K of it [1 + draws] (Wang et al. 2023, 4.1).

    Small values say that the circuit and the model lose the same by each loss; a large one that the model has another
    way, which the circuit leaves out.
    """
    rng, members = np.random.default_rng(seed), np.flatnonzero(circuit)
    knocked = [members, *(rng.choice(members, size=max(1, len(members) // 2), replace=False) for _ in range(draws))]
    pairs = [_without(whole, each) for each in knocked for whole in (circuit, contrasts[0].graph.edges)]
    found = faithfulness(contrasts, np.stack(pairs), should_stop=should_stop).reshape(-1, 2)
    return np.abs(found[:, 0] - found[:, 1])


def verify(
    contrasts: Sequence[Contrast],
    scores: NDArray[np.float64],
    *,
    top: int,
    sample: int,
    threshold: float,
    seed: int,
    alpha: float = 0.05,
    progress: Progress = no_progress,
    should_stop: StopCheck = never_stop,
) -> Verified:
    """Measure the effects of the ``top`` edges by score and of ``sample`` others, and bound what was missed.

    ``threshold`` is the mean effect in nats that would have been worth finding; the confidence is 1 - alpha.
    """
    edges = contrasts[0].graph.edges
    numbers = np.flatnonzero(edges)
    order = numbers[np.argsort(-np.abs(scores.ravel()[numbers]), kind="stable")]
    drawn = drawn_from(order[top:], sample, seed)
    chosen = np.concatenate([order[:top], drawn])
    found = []
    for done, contrast in enumerate(contrasts, start=1):
        values = contrast.decisions(_without_each(edges, chosen), should_stop=should_stop)
        found.append(values - contrast.d_clean)
        progress(done, len(contrasts), float(np.abs(found).max()))
    effects: NDArray[np.float64] = np.array(found, dtype=np.float64).mean(axis=0)
    missed = missed_at_most(effects[top:], total=len(order[top:]), threshold=threshold, alpha=alpha)
    return Verified(chosen, effects, len(drawn), missed)


def _decisions(contrasts: Sequence[Contrast], circuits: Edges, should_stop: StopCheck) -> NDArray[np.float64]:
    """Decision values [contrast, circuit]."""
    return np.array([contrast.decisions(circuits, should_stop=should_stop) for contrast in contrasts], dtype=np.float64)


def _without_each(edges: Edges, numbers: NDArray[np.intp]) -> Edges:
    return np.stack([_without(edges, np.array([number])) for number in numbers])


def _without(edges: Edges, numbers: NDArray[np.intp]) -> Edges:
    left = edges.copy()
    left.ravel()[numbers] = False
    return left
