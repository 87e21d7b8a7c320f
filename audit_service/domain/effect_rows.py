"""The rows of causal tracing: each site's effect with its bounds, by key (METHOD.md section 4)."""

from collections.abc import Iterator, Sequence

import numpy as np

from audit_service.domain.cells import EffectTable
from audit_service.domain.effects import Columns, SiteEffects, placebo_floor
from audit_service.domain.interplay import Asymmetry, Part
from audit_service.domain.plan import Direction, Judging
from audit_service.domain.results import Result, Sentence
from audit_service.domain.robustness import LeadingSite
from audit_service.domain.rows import count, plain, row
from audit_service.domain.sentences import say
from audit_service.domain.stability import (
    Halves,
    Spread,
    held_out,
    leading_count,
    overlap,
    rank_intervals,
    ranks,
    split_half,
)
from audit_service.domain.uncertainty import BCA_BELOW, Estimate, benjamini_hochberg, generator, level

MAX_T = "sign flips of clusters and cue pairs; max-T over sites"
FEWEST_SITES = 4
"""Below this an order of sites says nothing."""


def effect_rows(effects: SiteEffects, *, key: str, placebo: EffectTable, judging: Judging) -> Iterator[Result]:
    """Every number of one form and direction under ``key``; ``placebo`` holds its measured placebo pairs."""
    alpha = judging.alpha
    yield count(f"{key}.pairs", len(effects.table.pairs), "contrast pairs traced and measured")
    yield count(f"{key}.clusters", effects.clusters, "clusters traced")
    yield row(f"{key}.total_effect", effects.total, unit="nats", n=effects.clusters)
    floor = float(placebo_floor(placebo).max()) if placebo.pairs and placebo.sites else None
    method = "largest |mean effect| of a site over the placebo pairs"
    yield plain(f"{key}.placebo_floor", floor, unit="nats", method=method, n=len(placebo.pairs) or None)
    yield from site_rows(effects, key=key, alpha=alpha)
    named = None if effects.test is None else float(len(named_sites(effects, alpha=alpha)))
    yield plain(f"{key}.named_sites", named, unit="count", method="sites with max-T p below alpha")
    if effects.test is not None:
        yield from _stability(effects, key=key, judging=judging)


def metric_site_rows(
    effects: SiteEffects, shown: Sequence[int], *, key: str, unit: str, alpha: float
) -> Iterator[Result]:
    """How many sites another metric names, and the effects of some sites under it, in its unit."""
    method = f"{MAX_T}; p below alpha"
    named = None if effects.test is None else float(len(named_sites(effects, alpha=alpha)))
    yield plain(f"{key}.named_sites", named, unit="count", method=method, n=effects.clusters)
    interval = f"cluster bootstrap {'BCa' if effects.clusters < BCA_BELOW else 'percentile'} {level(alpha)}"
    for index in sorted(set(shown)):
        site, test = effects.table.sites[index], effects.test
        raw = _estimate(effects.raw, index, f"mean of patched minus unpatched; {interval}")
        p_value = None if test is None else float(test.raw[index])
        yield row(f"{key}.{site.key}", raw, unit=unit, n=effects.clusters, p_value=p_value)
        adjusted = None if test is None else float(test.adjusted[index])
        yield plain(f"{key}.{site.key}.p_maxt", adjusted, unit="p", method=MAX_T)


def leading(effects: SiteEffects) -> list[int]:
    """Indices of the sites that lead by size."""
    places = ranks(effects.raw.value)
    return [int(index) for index in np.flatnonzero(places <= leading_count(len(places)))]


def site_rows(effects: SiteEffects, *, key: str, alpha: float) -> Iterator[Result]:
    """Raw effect, normalised effect and max-T p of each site."""
    kind = "BCa" if effects.clusters < BCA_BELOW else "percentile"
    interval, test = f"cluster bootstrap {kind} {level(alpha)}", effects.test
    for index, site in enumerate(effects.table.sites):
        p_value = None if test is None else float(test.raw[index])
        raw = _estimate(effects.raw, index, f"mean of patched minus unpatched; {interval}")
        yield row(f"{key}.{site.key}", raw, unit="nats", n=effects.clusters, p_value=p_value)
        normalised = _estimate(effects.normalised, index, f"ratio of means; {interval}")
        yield row(f"{key}.{site.key}.normalised", normalised, unit="ratio", n=effects.clusters)
        adjusted = None if test is None else float(test.adjusted[index])
        yield plain(
            f"{key}.{site.key}.p_maxt",
            adjusted,
            unit="p",
            method=MAX_T,
        )


def _stability(effects: SiteEffects, *, key: str, judging: Judging) -> Iterator[Result]:
    """How far the order of the sites may be trusted; needs clusters enough for a test."""
    sites, alpha = effects.table.sites, judging.alpha
    if effects.test is None or len(sites) < FEWEST_SITES:
        return
    leading = leading_count(len(sites))
    yield from _screened(effects, key=key, alpha=alpha)
    places = ranks(effects.raw.value)
    first, last = rank_intervals(effects.draws, alpha=alpha)
    for index in np.flatnonzero(places <= leading):
        method = f"rank by size; cluster bootstrap {level(alpha)}"
        place = Estimate(float(places[index]), float(first[index]), float(last[index]), method)
        yield row(f"{key}.{sites[index].key}.rank", place, unit="1", n=effects.clusters)
    method = f"Jaccard overlap of the {leading} leading sites with those of each resample; 95 % of the resamples"
    yield _spread(f"{key}.topk_jaccard", overlap(effects.raw.value, effects.draws), method, unit="share")
    rng = generator(judging.seed, key, "halves")
    halves = Halves.of(effects.sums, effects.sizes, rng=rng)
    method = "Spearman correlation of the effects in two halves of the clusters; 95 % of the splits"
    yield _spread(f"{key}.split_half", split_half(halves), method, unit="1")
    control = held_out(halves, rng=rng)
    method = f"mean effect, in one half, of the {leading} sites that lead in the other; 95 % of the splits"
    yield _spread(f"{key}.leading_held_out", control.leading, method, unit="nats")
    method = f"the same for {leading} random sites; 95 % of the splits"
    yield _spread(f"{key}.random_site_null", control.random, method, unit="nats")
    method = "share of random sets at least as large as the leading ones, over dependent splits; no p value"
    yield plain(f"{key}.random_sites_lead", control.beaten, unit="share", method=method)


def _screened(effects: SiteEffects, *, key: str, alpha: float) -> Iterator[Result]:
    """The sites that a screening by false discovery rate would keep, and how many there are."""
    if effects.test is None:
        return
    q_values = benjamini_hochberg(effects.test.raw)
    kept = np.flatnonzero(q_values < alpha)
    yield count(f"{key}.screened_sites", len(kept), "sites with Benjamini-Hochberg q below alpha, for screening only")
    for index in kept:
        site, q = effects.table.sites[index], float(q_values[index])
        yield plain(f"{key}.{site.key}.q_bh", q, unit="p", method="sign flips; Benjamini-Hochberg, for screening only")


def _spread(key: str, spread: Spread | None, method: str, *, unit: str) -> Result:
    if spread is None:
        return row(key, Estimate(None, None, None, method, "reason.undefined"), unit=unit)
    return row(key, Estimate(*spread, method), unit=unit)


def asymmetry_rows(form: str, table: EffectTable, found: Sequence[Asymmetry]) -> Iterator[Result]:
    """What the two directions say about each named site, beside each other."""
    for one in found:
        yield row(f"{form}.asymmetry.{table.sites[one.site].key}", one.difference, unit="ratio")


def asymmetry_statements(form: str, table: EffectTable, found: Sequence[Asymmetry]) -> Iterator[Sentence]:
    """The sites of which an asymmetry is shown, in words."""
    for one in found:
        if one.part is not Part.EVEN:
            site = table.sites[one.site].key
            yield say(f"effects.{one.part}", form=form, site=site, sufficient=one.sufficient, needed=one.needed)


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
    if unusual := effects.table.key.removeprefix(f"{form}.{direction}").removeprefix("."):
        return _sensitivity(effects, unusual, alpha=alpha)
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


def _sensitivity(effects: SiteEffects, variant: str, *, alpha: float) -> Sentence:
    """What another corruption, or windows of layers, found."""
    form, direction = effects.table.form, effects.table.direction
    largest = int(np.argmax(np.abs(effects.raw.value)))
    return say(
        "effects.variant",
        form=form,
        direction=direction,
        variant=variant,
        named=len(named_sites(effects, alpha=alpha)),
        sites=len(effects.table.sites),
        site=effects.table.sites[largest].key,
        effect=float(effects.raw.value[largest]),
    )


def untraced(form: str, direction: Direction) -> Sentence:
    return say("effects.not_traced", form=form, direction=direction)


def leading_rows(form: str, leading: LeadingSite) -> Iterator[Result]:
    """How often the leading site of a form leads, over all other specifications and choice by choice."""
    method = (
        f"share of {leading.specifications} other specifications (direction, corruption, metric, prompts) in which "
        f"{leading.site} leads"
    )
    yield plain(f"{form}.leading_site_share", leading.share, unit="share", method=method)
    yield from leading.rows


def leading_statement(form: str, leading: LeadingSite) -> Sentence:
    return say(
        "effects.unstable" if leading.others else "effects.stable",
        form=form,
        site=leading.site,
        share=leading.share,
        specifications=leading.specifications,
        others=", ".join(leading.others[:3]),
        where="; ".join(leading.changed_by[:3]),
        changed=len(leading.changed_by),
    )
