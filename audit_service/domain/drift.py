"""Drift: what a new model version changed against the accepted one, on the same pairs (METHOD.md section 9).

Changes are new minus accepted, pair by pair, so that what both versions have in common cancels. Same output with
another mechanism is reported, not passed over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from scipy import stats

from audit_service.domain.cells import DecisionTable, EffectTable, Mask, gap
from audit_service.domain.contrasts import Contrast, contrasts, units
from audit_service.domain.disparity import ClusteredMean
from audit_service.domain.manifest import Frozen
from audit_service.domain.pairs import PairKind
from audit_service.domain.plan import Judging, Plan
from audit_service.domain.results import Result, Sentence
from audit_service.domain.rows import count, plain, row
from audit_service.domain.sentences import say
from audit_service.domain.stability import Spread, leading_count, shared_leading
from audit_service.domain.uncertainty import (
    Array,
    Clusters,
    Estimate,
    FlipTest,
    Resampled,
    fewest_clusters,
    generator,
    holm,
    level,
    most_cautious,
    resample,
    sign_flip,
)

RESAMPLES = 1000
"""Resamples of rankings; each costs a sort of all sites."""


class Change(StrEnum):
    """What is shown of a change. Absence of significance is not sameness."""

    SAME = "same"
    """Within the equivalence margin."""
    CHANGED = "changed"
    """A change is shown, and not shown to be within the margin."""
    UNDECIDED = "undecided"
    NOT_MEASURED = "not_measured"


class Drift(Frozen):
    """The comparison of two runs of one plan."""

    results: tuple[Result, ...]
    statements: tuple[Sentence, ...]
    output: Change
    """Of all disparities together."""
    mechanism: Change
    """CHANGED if any site's effect changed; never SAME, for no test shows that."""


@dataclass(frozen=True, slots=True)
class Run:
    """The cells of one run of the plan."""

    decisions: DecisionTable
    effects: Sequence[EffectTable]


def compare(plan: Plan, *, accepted: Run, new: Run) -> Drift:
    """Change of each disparity and of each site's effect from the accepted run to the new one."""
    disparities = _disparities(plan, accepted.decisions, new.decisions)
    mechanisms = list(_mechanisms(plan, accepted, new))
    output = _together([one.change for one in disparities])
    mechanism = _together([one.change for one in mechanisms])
    statements = [statement for one in (*disparities, *mechanisms) for statement in one.statements]
    if output is Change.SAME and mechanism is Change.CHANGED:
        statements.append(say("drift.other_mechanism"))
    rows = [result for one in (*disparities, *mechanisms) for result in one.rows]
    return Drift(results=tuple(rows), statements=tuple(statements), output=output, mechanism=mechanism)


def _together(changes: Sequence[Change]) -> Change:
    """Any change is a change; the same only if all are the same."""
    if Change.CHANGED in changes:
        return Change.CHANGED
    kinds = set(changes)
    return kinds.pop() if len(kinds) == 1 else Change.UNDECIDED if kinds else Change.NOT_MEASURED


@dataclass(frozen=True, slots=True)
class Part:
    """One disparity, or one form and direction of the traces."""

    change: Change
    rows: tuple[Result, ...]
    statements: tuple[Sentence, ...]


def _disparities(plan: Plan, accepted: DecisionTable, new: DecisionTable) -> list[Part]:
    before = contrasts(accepted, plan.behavior)
    after = {contrast.key: contrast for contrast in contrasts(new, plan.behavior)}
    tested = [_Tested.of(one, after[one.key], plan.judging) for one in before if one.key in after]
    known = iter(holm([one.p_value for one in tested if one.p_value is not None]))
    return [_disparity(one, None if one.p_value is None else next(known), plan.judging) for one in tested]


@dataclass(frozen=True, slots=True)
class _Tested:
    """The change of one contrast's gap over the pairs that both runs measured."""

    contrast: Contrast
    clusters: int
    change: Estimate
    p_value: float | None
    means: tuple[ClusteredMean, ...]
    """By clusters, and by whole cue pairs where clusters share them; none without variation or enough clusters."""

    @classmethod
    def of(cls, before: Contrast, after: Contrast, judging: Judging) -> "_Tested":
        one, other = matched(before.table, after.table)
        columns = {"n": np.ones(len(one.pairs)), "change": gap(other.d) - gap(one.d)}
        rng, resamples = generator(judging.seed, "drift", before.key), judging.resamples
        kinds = units(one.pairs, alpha=judging.alpha)
        sample = Resampled.of(columns, kinds[0], rng=rng, resamples=resamples)
        estimate = sample.estimate(lambda sums: sums["change"] / sums["n"], alpha=judging.alpha, what="mean change")
        if sample.clusters < fewest_clusters(judging.alpha):
            return cls(before, sample.clusters, estimate, None, ())
        sums = [unit.sums(np.column_stack([columns["change"], columns["n"]])) for unit in kinds]
        test = most_cautious([sign_flip(part[:, :1], rng=rng, resamples=resamples) for part in sums])
        means = () if estimate.issue else tuple(ClusteredMean.of(*part.T) for part in sums)
        return cls(before, sample.clusters, estimate, float(test.raw[0]), means)

    def equivalence_p(self, delta: float) -> float | None:
        return max((mean.equivalence_p(delta) for mean in self.means), default=None)


def _disparity(tested: _Tested, p_holm: float | None, judging: Judging) -> Part:
    key, alpha, delta = f"drift.{tested.contrast.key}", judging.alpha, judging.delta_nats
    change = _gap_change(tested, p_holm, judging)
    rows = [
        row(f"{key}.gap_change_nats", tested.change, unit="nats", n=tested.clusters, p_value=tested.p_value),
        plain(f"{key}.gap_change_p_holm", p_holm, unit="p", method="sign flips of clusters; Holm over the run"),
    ]
    method = f"TOST against ±{delta:g} nats; cluster-robust t {level(2 * alpha)}"
    if tested.means:
        widest = max(tested.means, key=lambda mean: mean.equivalence_p(delta))
        within = Estimate(widest.value, *widest.interval(2 * alpha), method)
        p_value = tested.equivalence_p(delta)
        rows.append(row(f"{key}.equivalence_nats", within, unit="nats", n=widest.clusters, p_value=p_value))
    statement = say(
        f"drift.{change}",
        form=tested.contrast.form,
        group=tested.contrast.group,
        change=tested.change.value or 0.0,
        delta=delta,
    )
    return Part(change, tuple(rows), (statement,))


def _gap_change(tested: _Tested, p_holm: float | None, judging: Judging) -> Change:
    if tested.change.value is None:
        return Change.NOT_MEASURED
    if tested.change.issue == "reason.no_variation" and tested.change.value == 0:
        return Change.SAME
    equivalence_p = tested.equivalence_p(judging.delta_nats)
    if equivalence_p is not None and equivalence_p < judging.alpha:
        return Change.SAME
    return Change.CHANGED if p_holm is not None and p_holm < judging.alpha else Change.UNDECIDED


Table = TypeVar("Table", DecisionTable, EffectTable)


def matched(one: Table, other: Table) -> tuple[Table, Table]:
    """Both tables cut to the pairs that both have, in the first one's order."""
    places = {pair.id: index for index, pair in enumerate(other.pairs)}
    shared = np.array([pair.id in places for pair in one.pairs], dtype=bool)
    first = one.select(shared)
    order = np.array([places[pair.id] for pair in first.pairs], dtype=np.intp)
    return first, other.take(order)


def _mechanisms(plan: Plan, accepted: Run, new: Run) -> Iterator[Part]:
    after = {(table.form, table.direction): table for table in new.effects}
    for table in accepted.effects:
        other = after.get((table.form, table.direction))
        if other is not None:
            yield _mechanism(plan, _measured(plan, accepted, table), _measured(plan, new, other))


def _measured(plan: Plan, run: Run, table: EffectTable) -> EffectTable:
    """The contrast pairs with a measured decision and finite cells."""
    measured = run.decisions.measured(min_coverage=plan.behavior.min_coverage)
    known = {pair.id for pair, kept in zip(run.decisions.pairs, measured, strict=True) if kept}
    wanted: Mask = np.array([pair.kind is PairKind.CONTRAST and pair.id in known for pair in table.pairs], dtype=bool)
    return table.select(table.finite() & wanted)


def _mechanism(plan: Plan, before: EffectTable, after: EffectTable) -> Part:
    names = {"form": before.form, "direction": before.direction.value}
    if before.sites != after.sites:
        return Part(Change.NOT_MEASURED, (), (say("drift.other_sites", **names),))
    one, other = matched(before, after)
    clusters = Clusters.of([pair.cluster for pair in one.pairs])
    if clusters.count < fewest_clusters(plan.judging.alpha):
        return Part(Change.NOT_MEASURED, (), (say("drift.few", **names, clusters=clusters.count),))
    return _site_changes(plan.judging, one, other, clusters)


def _site_changes(judging: Judging, one: EffectTable, other: EffectTable, clusters: Clusters) -> Part:
    key = f"drift.{one.form}.{one.direction}"
    sums = [clusters.sums(table.effects) for table in (one, other)]
    sizes = clusters.sums(np.ones((len(one.pairs), 1)))
    change, rng = other.effects - one.effects, generator(judging.seed, key)
    kinds = units(one.pairs, alpha=judging.alpha)
    test = most_cautious([sign_flip(unit.sums(change), rng=rng, resamples=judging.resamples) for unit in kinds])
    changed = np.flatnonzero(test.adjusted < judging.alpha)
    correlation, shared = _alike(np.column_stack([*sums, sizes]), generator(judging.seed, key, "ranks"))
    leading = leading_count(len(one.sites))
    method = "Spearman correlation of the sites' effects in both versions; 95 % of the resamples"
    rows = [
        row(f"{key}.rank_correlation", _estimate(correlation, method), unit="1", n=clusters.count),
        row(
            f"{key}.topk_jaccard",
            _estimate(shared, f"Jaccard overlap of the {leading} leading sites of both versions"),
            unit="share",
        ),
        count(f"{key}.changed_sites", len(changed), "sites whose change has a max-T p below alpha"),
        *_site_rows(key, one, (sums[1] - sums[0]).sum(axis=0) / sizes.sum(), test),
    ]
    statement = say(
        "drift.sites_changed" if len(changed) else "drift.no_site_changed",
        form=one.form,
        direction=one.direction.value,
        changed=len(changed),
        sites=len(one.sites),
    )
    return Part(Change.CHANGED if len(changed) else Change.UNDECIDED, tuple(rows), (statement,))


def _site_rows(key: str, table: EffectTable, change: Array, test: FlipTest) -> Iterator[Result]:
    for index, site in enumerate(table.sites):
        estimate = Estimate(
            float(change[index]), None, None, "mean change of the effect; p by sign-flip max-T over sites"
        )
        yield row(f"{key}.{site.key}.change", estimate, unit="nats", p_value=float(test.adjusted[index]))


def _estimate(spread: Spread | None, method: str) -> Estimate:
    return Estimate(None, None, None, method, "reason.undefined") if spread is None else Estimate(*spread, method)


def _alike(sums: Array, rng: np.random.Generator) -> tuple[Spread | None, Spread]:
    """Rank correlation and overlap of the leading sites from sums [cluster, accepted sites + new sites + 1].

    Both are of the two versions' means, with the range that resampled clusters give.
    """
    drawn = resample(sums, rng=rng, resamples=RESAMPLES)
    means = np.concatenate([sums.sum(axis=0, keepdims=True), drawn])
    one, other = np.split(means[:, :-1] / means[:, -1:], 2, axis=1)
    correlations = _spearman(one, other)
    alike = _with_range(correlations) if np.isfinite(correlations).all() else None
    return alike, _with_range(shared_leading(one, other))


def _with_range(values: Array) -> Spread:
    """The first value, with the range of 95 % of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Spread(float(values[0]), float(low), float(high))


def _spearman(one: Array, other: Array) -> Array:
    """[row, site] twice → [row] rank correlation; NaN where the sites do not differ."""
    first, second = (stats.rankdata(x, axis=1) - (x.shape[1] + 1) / 2 for x in (one, other))
    spread = np.sqrt(np.square(first).sum(axis=1) * np.square(second).sum(axis=1))
    together = (first * second).sum(axis=1)
    return np.asarray(np.divide(together, spread, out=np.full_like(spread, np.nan), where=spread > 0))
