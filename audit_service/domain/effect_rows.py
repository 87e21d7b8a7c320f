"""The rows of causal tracing: each site's effect with its bounds, by key (METHOD.md section 4)."""

from collections.abc import Iterator

import numpy as np

from audit_service.domain.cells import EffectTable
from audit_service.domain.effects import Columns, SiteEffects, placebo_floor
from audit_service.domain.plan import Direction
from audit_service.domain.results import Result, Sentence
from audit_service.domain.rows import count, plain, row
from audit_service.domain.sentences import say
from audit_service.domain.uncertainty import BCA_BELOW, Estimate, level


def effect_rows(effects: SiteEffects, *, placebo: EffectTable, alpha: float) -> Iterator[Result]:
    """Every number of one form and direction; ``placebo`` holds its measured placebo pairs."""
    key = prefix(effects.table)
    yield count(f"{key}.pairs", len(effects.table.pairs), "contrast pairs traced and measured")
    yield count(f"{key}.clusters", effects.clusters, "clusters traced")
    yield row(f"{key}.total_effect", effects.total, unit="nats", n=effects.clusters)
    floor = float(placebo_floor(placebo).max()) if placebo.pairs and placebo.sites else None
    method = "largest |mean effect| of a site over the placebo pairs"
    yield plain(f"{key}.placebo_floor", floor, unit="nats", method=method, n=len(placebo.pairs) or None)
    yield from _sites(effects, key, alpha)
    named = None if effects.test is None else float(len(named_sites(effects, alpha=alpha)))
    yield plain(f"{key}.named_sites", named, unit="count", method="sites with max-T p below alpha")


def prefix(table: EffectTable) -> str:
    return f"{table.form}.{table.direction}"


def _sites(effects: SiteEffects, key: str, alpha: float) -> Iterator[Result]:
    kind = "BCa" if effects.clusters < BCA_BELOW else "percentile"
    interval, test = f"cluster bootstrap {kind} {level(alpha)}", effects.test
    for index, site in enumerate(effects.table.sites):
        p_value = None if test is None else float(test.raw[index])
        raw = _estimate(effects.raw, index, f"mean of patched minus unpatched; {interval}")
        yield row(f"{key}.{site.key}", raw, unit="nats", n=effects.clusters, p_value=p_value)
        normalised = _estimate(effects.normalised, index, f"ratio of means; {interval}")
        yield row(f"{key}.{site.key}.normalised", normalised, unit="ratio", n=effects.clusters)
        adjusted = None if test is None else float(test.adjusted[index])
        yield plain(f"{key}.{site.key}.p_maxt", adjusted, unit="p", method="sign flips of clusters; max-T over sites")


def _estimate(columns: Columns | None, index: int, method: str) -> Estimate:
    if columns is None:
        return Estimate(None, None, None, method, "reason.denominator")
    value = float(columns.value[index])
    if columns.bounds is None:
        return Estimate(value, None, None, method, "reason.too_few_clusters")
    low, high = float(columns.bounds.low[index]), float(columns.bounds.high[index])
    if not (np.isfinite(low) and np.isfinite(high)):
        return Estimate(value, None, None, method, "reason.no_variation")
    return Estimate(value, low, high, method)


def named_sites(effects: SiteEffects, *, alpha: float) -> list[int]:
    """Indices of the sites that may be named as involved, largest absolute effect first."""
    if effects.test is None:
        return []
    found = np.flatnonzero(effects.test.adjusted < alpha)
    return [int(index) for index in found[np.argsort(-np.abs(effects.raw.value[found]), kind="stable")]]


def statement(effects: SiteEffects, *, alpha: float) -> Sentence:
    """What the traces of one form and direction found, in words."""
    form, direction, sites = effects.table.form, effects.table.direction, len(effects.table.sites)
    if effects.test is None:
        return say("effects.few", form=form, direction=direction, clusters=effects.clusters)
    if not (named := named_sites(effects, alpha=alpha)):
        return say("effects.none", form=form, direction=direction, sites=sites)
    largest = named[0]
    return say(
        "effects.named",
        form=form,
        direction=direction,
        named=len(named),
        sites=sites,
        site=effects.table.sites[largest].key,
        effect=float(effects.raw.value[largest]),
    )


def untraced(form: str, direction: Direction) -> Sentence:
    return say("effects.not_traced", form=form, direction=direction)
