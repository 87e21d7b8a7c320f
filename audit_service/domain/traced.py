"""The traces of a run, form by form and direction by direction: their rows, and what they say in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from audit_service.domain.cells import DecisionTable, EffectTable, Mask
from audit_service.domain.decision_rows import other_metrics
from audit_service.domain.effect_rows import (
    effect_rows,
    leading,
    metric_site_rows,
    named_sites,
    site_rows,
    statement,
    untraced,
)
from audit_service.domain.effects import SiteEffects, site_effects
from audit_service.domain.interplay import Asymmetry, asymmetries
from audit_service.domain.pairs import PairKind
from audit_service.domain.plan import Direction, Plan
from audit_service.domain.results import Result, Sentence
from audit_service.domain.robustness import RESAMPLES, LeadingSite, leading_site
from audit_service.domain.rows import count, plain, row


@dataclass(frozen=True, slots=True)
class Traced:
    """The measured part of one form and direction of the traces."""

    table: EffectTable
    """As it came, measured or not."""
    contrast: EffectTable
    placebo: EffectTable
    effects: SiteEffects | None
    """None without a measured contrast pair."""


def measured_part(plan: Plan, table: EffectTable, decisions: DecisionTable) -> Traced:
    kept = table.finite() & decisions.measured_of(table.pairs, min_coverage=plan.behavior.min_coverage)
    contrast, placebo = (
        table.select(kept & _of_kind(table, kind)).resolved() for kind in (PairKind.CONTRAST, PairKind.PLACEBO)
    )
    return Traced(table, contrast, placebo, _effects(plan, contrast) if contrast.pairs else None)


def _effects(plan: Plan, table: EffectTable) -> SiteEffects:
    judging = plan.judging
    return site_effects(table, alpha=judging.alpha, resamples=judging.resamples, seed=judging.seed)


def trace_rows(plan: Plan, part: Traced) -> Iterator[Result]:
    key = part.table.key
    lost = len(part.table.pairs) - len(part.contrast.pairs) - len(part.placebo.pairs)
    yield count(
        f"{key}.pairs_not_measured", lost, "traced pairs without a measured decision or with a cell that is no number"
    )
    if part.effects is None:
        return
    yield from effect_rows(part.effects, key=key, placebo=part.placebo, judging=plan.judging)
    if not part.table.is_main:
        return
    yield from _metric_rows(plan, part, part.effects)
    groups = {(pair.attribute, pair.comparison_group) for pair in part.contrast.pairs}
    for attribute, group in sorted(groups) if len(groups) > 1 else ():
        ours = [(pair.attribute, pair.comparison_group) == (attribute, group) for pair in part.contrast.pairs]
        effects = _effects(plan, part.contrast.select(np.array(ours)))
        inner = f"{part.table.form}.{attribute}.{group}.{part.table.direction}"
        yield row(f"{inner}.total_effect", effects.total, unit="nats", n=effects.clusters)
        yield from site_rows(effects, key=inner, alpha=plan.judging.alpha)


def _metric_rows(plan: Plan, part: Traced, effects: SiteEffects) -> Iterator[Result]:
    """The sites under the plan's other metrics, from the cells of the same runs."""
    alpha = plan.judging.alpha
    for metric in other_metrics(plan):
        key = f"{part.table.key}.metric.{metric.name}"
        table = metric.under(part.contrast)
        if table is None or not table.pairs:
            method = f"{metric.definition.formula} of the patched runs"
            yield plain(f"{key}.named_sites", None, unit="count", method=method)
            continue
        read = site_effects(
            table, alpha=alpha, resamples=min(plan.judging.resamples, RESAMPLES), seed=plan.judging.seed
        )
        shown = [*named_sites(effects, alpha=alpha), *named_sites(read, alpha=alpha), *leading(read)]
        yield from metric_site_rows(read, shown, key=key, unit=metric.unit, alpha=alpha)


def trace_statement(plan: Plan, part: Traced) -> Sentence:
    if part.effects is None:
        return untraced(part.table.form, part.table.direction)
    return statement(part.effects, alpha=plan.judging.alpha)


def named_asymmetries(plan: Plan, traced: Sequence[Traced]) -> Iterator[tuple[EffectTable, list[Asymmetry]]]:
    """The sites named in either direction, where both were traced and the total effect is known to differ from 0."""
    parts = {(part.table.form, part.table.direction): part for part in traced if part.table.is_main}
    judging = plan.judging
    for form in dict.fromkeys(part.table.form for part in traced):
        both = [parts.get((form, direction)) for direction in (Direction.DENOISE, Direction.NOISE)]
        one, other = (None if part is None else part.effects for part in both)
        if one is None or other is None or one.normalised is None or other.normalised is None:
            continue
        named = dict.fromkeys([*named_sites(one, alpha=judging.alpha), *named_sites(other, alpha=judging.alpha)])
        yield (
            one.table,
            asymmetries(
                one.table,
                other.table,
                list(named),
                alpha=judging.alpha,
                resamples=judging.resamples,
                seed=judging.seed,
            ),
        )


def _of_kind(table: EffectTable, kind: PairKind) -> Mask:
    return np.array([pair.kind is kind for pair in table.pairs], dtype=bool)


def leading_sites(plan: Plan, traced: Sequence[Traced]) -> Iterator[tuple[str, LeadingSite]]:
    """The leading site of each form in which any site is named."""
    for form in dict.fromkeys(part.table.form for part in traced):
        ours = [part for part in traced if part.table.form == form and part.effects is not None]
        main = [part for part in ours if part.table.is_main]
        if not any(part.effects and named_sites(part.effects, alpha=plan.judging.alpha) for part in main):
            continue
        found = leading_site([part.contrast for part in ours if part.table.width == 1], plan)
        if found is not None:
            yield form, found
