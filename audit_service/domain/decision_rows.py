"""The rows of decision-level disparity: all points of METHOD.md section 3, by key."""

from collections.abc import Iterator, Sequence

import numpy as np

from audit_service.domain.behaviors import Behavior
from audit_service.domain.cells import DecisionTable, gap
from audit_service.domain.contrasts import Contrast, columns, placebo
from audit_service.domain.disparity import assess, mean, selection_ratio, standardised
from audit_service.domain.metrics import LOG_ODDS, Metric, metric_of
from audit_service.domain.mixed import mixed_model
from audit_service.domain.plan import Judging, Plan, Unit
from audit_service.domain.results import Result
from audit_service.domain.rows import count, plain, row
from audit_service.domain.shares import FEWEST_FLIPPING, difference, katz, mcnemar, net_share, ratio_from_net, share
from audit_service.domain.strata import strata_rows
from audit_service.domain.uncertainty import (
    Clusters,
    Estimate,
    Resampled,
    fewest_clusters,
    generator,
    level,
    sign_flip,
)
from audit_service.domain.verdict import Judged


def contrast_rows(contrast: Contrast, judged: Judged, *, decisions: DecisionTable, plan: Plan) -> Iterator[Result]:
    """Every number of one comparison group in one form."""
    behavior, judging = plan.behavior, plan.judging
    data = columns(contrast.table, cut=behavior.cut)
    rng = generator(judging.seed, contrast.key, "rows")
    sample = Resampled.of(data, contrast.clusters, rng=rng, resamples=judging.resamples)
    yield from _sizes(contrast)
    yield from _gap(contrast, judged, sample, judging.alpha)
    yield from _equivalence(contrast, judged, judging.alpha)
    yield from _rates(contrast, sample, judging.alpha)
    unprotected = placebo(decisions, behavior, contrast.form)
    same = np.array([pair.attribute == contrast.attribute for pair in unprotected.pairs], dtype=bool)
    noise = placebo_flips(unprotected.select(same), cut=behavior.cut, alpha=judging.alpha)
    yield from _flips(contrast, judged, sample, noise=noise, alpha=judging.alpha)
    by_cues = assess(contrast, behavior=behavior, judging=judging, unit=Unit.CUES)
    yield row(f"{contrast.key}.gap_nats_by_cues", by_cues.gap, unit="nats", n=by_cues.clusters, p_value=by_cues.p_value)
    yield from strata_rows(contrast, behavior=behavior, judging=judging)
    yield from _mixed(contrast, judging.alpha)
    for metric in other_metrics(plan):
        yield _metric_row(f"{contrast.key}.metric.{metric.name}", contrast.table, metric, judging)


def other_metrics(plan: Plan) -> Iterator[Metric]:
    """The plan's metrics but the log-odds, which all other rows are in."""
    for definition in plan.metrics:
        if definition.formula != LOG_ODDS.definition.formula:
            yield metric_of(definition, plan.behavior)


def _metric_row(key: str, table: DecisionTable, metric: Metric, judging: Judging) -> Result:
    """The mean paired gap under another metric; of a divergence its mean, which is never below 0."""
    what = f"mean of {metric.name}, reference minus comparison; outside the Holm family"
    if not metric.knows(table):
        return plain(key, None, unit=metric.unit, method=what)
    clusters, rng = Clusters.of([pair.cluster for pair in table.pairs]), generator(judging.seed, key)
    added = {"n": np.ones(len(table.pairs)), "gap": gap(metric.value(table))}
    sample = Resampled.of(added, clusters, rng=rng, resamples=judging.resamples)
    estimate = sample.estimate(mean("gap"), alpha=judging.alpha, what=what)
    p_value = None
    testable = clusters.count >= fewest_clusters(judging.alpha) and not metric.definition.is_divergence
    if testable and estimate.value is not None:
        p_value = float(sign_flip(sample.sums("gap")[:, None], rng=rng, resamples=judging.resamples).raw[0])
    return row(key, estimate, unit=metric.unit, n=clusters.count, p_value=p_value)


def _mixed(contrast: Contrast, alpha: float) -> Iterator[Result]:
    model = mixed_model(contrast.table, alpha=alpha)
    yield row(f"{contrast.key}.mixed_gap_nats", model.gap, unit="nats")
    for name, spread in model.spreads.items():
        method = f"standard deviation between levels of {name}; mixed model, REML"
        yield plain(f"{contrast.key}.mixed_sd_{name}", spread, unit="nats", method=method)
    if model.spreads:
        method = "correlation of a template's level and its attribute's effect; mixed model, REML"
        issue = "reason.undefined" if model.correlation is None else None
        found = Estimate(model.correlation, None, None, method, issue)
        yield row(f"{contrast.key}.mixed_correlation", found, unit="1")


def attribute_rows(judged: Sequence[tuple[Contrast, Judged]]) -> Iterator[Result]:
    """Whether any of an attribute's groups differs from the reference, where there is more than one."""
    families: dict[tuple[str, str], list[float | None]] = {}
    for contrast, one in judged:
        families.setdefault((contrast.form, contrast.attribute), []).append(one.p_holm)
    for (form, attribute), p_values in families.items():
        known = [p for p in p_values if p is not None]
        if len(p_values) > 1:
            method = "smallest Holm-adjusted p of the attribute's groups"
            yield plain(f"{form}.{attribute}.any_group_p", min(known, default=None), unit="p", method=method)


def _sizes(contrast: Contrast) -> Iterator[Result]:
    yield count(f"{contrast.key}.pairs", len(contrast.asked.pairs), "pairs asked for")
    yield count(f"{contrast.key}.pairs_not_measured", contrast.not_measured, "pairs without a measured decision")
    yield count(f"{contrast.key}.clusters", contrast.clusters.count, "clusters measured (template x cue pair)")


def _gap(contrast: Contrast, judged: Judged, sample: Resampled, alpha: float) -> Iterator[Result]:
    key, clusters = contrast.key, sample.clusters
    yield row(f"{key}.gap_nats", judged.assessment.gap, unit="nats", n=clusters, p_value=judged.assessment.p_value)
    yield plain(f"{key}.gap_p_holm", judged.p_holm, unit="p", method="sign flips of clusters; Holm over the run")
    points = sample.estimate(mean("gap_pp"), alpha=alpha, what="mean paired gap of p")
    yield row(f"{key}.gap_pp", points, unit="percentage points", n=clusters)
    size = sample.estimate(mean("gap_absolute"), alpha=alpha, what="mean absolute gap")
    yield row(f"{key}.gap_abs_nats", size, unit="nats", n=clusters)
    effect = sample.jackknife(standardised, alpha=alpha, what="mean / sd of the paired differences")
    yield row(f"{key}.dz", effect, unit="1", n=clusters)


def _equivalence(contrast: Contrast, judged: Judged, alpha: float) -> Iterator[Result]:
    assessment, error = judged.assessment, judged.assessment.mean
    method = f"TOST against ±{assessment.delta:g} nats; cluster-robust t {level(2 * alpha)}"
    if error is None:
        missing = Estimate(None, None, None, method, assessment.gap.issue or "reason.not_measured")
        yield row(f"{contrast.key}.equivalence_nats", missing, unit="nats")
        yield row(f"{contrast.key}.mde_nats", missing, unit="nats")
        return
    low, high = error.interval(2 * alpha)
    yield row(
        f"{contrast.key}.equivalence_nats",
        Estimate(error.value, low, high, method),
        unit="nats",
        n=error.clusters,
        p_value=assessment.equivalence_p,
    )
    detectable = error.detectable(alpha)
    yield plain(f"{contrast.key}.mde_nats", detectable, unit="nats", method="2.8 x SE", n=error.clusters)


def _rates(contrast: Contrast, sample: Resampled, alpha: float) -> Iterator[Result]:
    sizes, n = sample.sums("n"), sample.clusters
    rates = {
        side: share(sample.sums(side), sizes, alpha=alpha, what="share approved")
        for side in ("reference", "comparison")
    }
    for side, rate in rates.items():
        yield row(f"{contrast.key}.rate_{side}", rate, unit="share", n=n)
    ratio = sample.estimate(selection_ratio, alpha=alpha, what="ratio of approval rates of paired prompts")
    flipping = int((sample.sums("lost") + sample.sums("gained") > 0).sum())
    if flipping < FEWEST_FLIPPING and rates["reference"].value:
        net = net_share(sample.sums("lost"), sample.sums("gained"), sizes, alpha=alpha, what="(b - c) / n")
        ratio = ratio_from_net(ratio, net, rates["reference"].value)
    yield row(f"{contrast.key}.rate_ratio", ratio, unit="ratio", n=n)
    approved = [round(sample.total(side)) for side in rates]
    independent = katz(approved, [len(contrast.table.pairs)] * 2, alpha=alpha)
    yield row(f"{contrast.key}.rate_ratio_independent", independent, unit="ratio")


def _flips(contrast: Contrast, judged: Judged, sample: Resampled, *, noise: Estimate, alpha: float) -> Iterator[Result]:
    key, n = contrast.key, sample.clusters
    lost, gained, sizes = (sample.sums(name) for name in ("lost", "gained", "n"))
    net = net_share(lost, gained, sizes, alpha=alpha, what="(b - c) / n")
    yield row(f"{key}.flips_net", net, unit="share", n=n, p_value=judged.assessment.flips_p)
    method = "sign flips of clusters; Holm over the run"
    yield plain(f"{key}.flips_p_holm", judged.flips_p_holm, unit="p", method=method)
    gross = share(lost + gained, sizes, alpha=alpha, what="(b + c) / n")
    yield row(f"{key}.flips_gross", gross, unit="share", n=n)
    excess = difference(gross, noise, what="gross flips minus those of the placebo pairs")
    yield row(f"{key}.flips_over_placebo", excess, unit="share", n=n)
    b, c = round(float(lost.sum())), round(float(gained.sum()))
    yield count(f"{key}.flips_lost", b, "pairs approved only with the reference cue (b)")
    yield count(f"{key}.flips_gained", c, "pairs approved only with the comparison cue (c)")
    p_value = mcnemar(b, c) if contrast.table.pairs else None
    yield plain(f"{key}.mcnemar_p", p_value, unit="p", method="exact McNemar over pairs, clusters not considered")


def placebo_flips(noise: DecisionTable, *, cut: float, alpha: float) -> Estimate:
    """How often a decision flips when nothing protected changes."""
    data = columns(noise, cut=cut)
    counts = np.column_stack([data["lost"] + data["gained"], data["n"]])
    events, sizes = Clusters.of([pair.cluster for pair in noise.pairs]).sums(counts).T
    return share(events, sizes, alpha=alpha, what="(b + c) / n of placebo pairs")


def form_rows(decisions: DecisionTable, form: str, *, plan: Plan) -> Iterator[Result]:
    """What the prompts of a form have in common: placebo pairs (the noise floor) and coverage."""
    behavior, judging = plan.behavior, plan.judging
    noise = placebo(decisions, behavior, form)
    clusters = Clusters.of([pair.cluster for pair in noise.pairs])
    yield count(f"{form}.placebo.pairs", len(noise.pairs), "placebo pairs measured")
    yield count(f"{form}.placebo.clusters", clusters.count, "clusters of placebo pairs")
    rng = generator(judging.seed, form, "placebo")
    sample = Resampled.of(columns(noise, cut=behavior.cut), clusters, rng=rng, resamples=judging.resamples)
    alpha, n = judging.alpha, clusters.count
    yield row(f"{form}.placebo.flip_rate", placebo_flips(noise, cut=behavior.cut, alpha=alpha), unit="share", n=n)
    signed = sample.estimate(mean("gap"), alpha=alpha, what="mean gap of placebo pairs")
    yield row(f"{form}.placebo.gap_nats", signed, unit="nats", n=n)
    size = sample.estimate(mean("gap_absolute"), alpha=alpha, what="mean absolute gap of placebo pairs")
    yield row(f"{form}.placebo.gap_abs_nats", size, unit="nats", n=n)
    for metric in other_metrics(plan):
        yield _metric_row(f"{form}.placebo.metric.{metric.name}", noise, metric, judging)
    yield from _coverage(decisions, form, behavior)


def _coverage(decisions: DecisionTable, form: str, behavior: Behavior) -> Iterator[Result]:
    ours = decisions.select(np.array([pair.form == form for pair in decisions.pairs], dtype=bool))
    finite = ours.finite()
    known = ours.coverage[finite]
    method = "mean probability on the declared labels, over prompt sides of pairs"
    yield plain(f"{form}.coverage_mean", float(known.mean()) if len(known) else None, unit="share", method=method)
    below = int((known < behavior.min_coverage).sum())
    yield count(f"{form}.prompts_low_coverage", below, "prompt sides below the declared minimum coverage")
    yield count(f"{form}.prompts_not_finite", int((~finite).sum()), "prompt sides without a finite decision")
