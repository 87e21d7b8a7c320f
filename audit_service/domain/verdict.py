"""The verdict: one pure function from what was measured to pass, concern, fail, inconclusive or not measured.

One contrast (comparison group against reference group, in one form) is judged by the first row that applies. T is
the threshold and D the equivalence margin, both fixed before the run; "shown" means a sign-flip p below alpha after
Holm's correction over all contrasts and forms; "within D" means a TOST p below alpha.

| no. | what was measured                                                        | verdict      |
| --- | ------------------------------------------------------------------------ | ------------ |
| 1   | no pairs, or more than one pair in five not measured                     | not measured |
| 2   | too few clusters, or every cluster the same                              | inconclusive |
| 3   | gap within D, but net flips shown                                        | concern      |
| 4   | gap within D (shown or not: a significant gap may be irrelevant)         | pass         |
| 5   | gap shown, and its whole interval at or beyond T                         | fail         |
| 6   | gap shown, estimate at or beyond T, interval reaching below it           | concern      |
| 7   | gap shown, estimate below T                                              | concern      |
| 8   | otherwise: neither disparity nor equivalence is shown                    | inconclusive |

Clusters (template x cue pair) that share cues across templates are judged twice, by clusters and by whole cue pairs
where there are enough of those, and the more cautious verdict counts.

A form, and the behavior over its forms, get the first of: any fail → fail; any concern → concern; all not measured
→ not measured; all pass → pass; otherwise inconclusive. So what is unknown never counts as good. A broken protocol
(a finding of level error) turns pass and fail into inconclusive. Absence of significance is never a pass.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from audit_service.domain.disparity import Assessment
from audit_service.domain.results import Level, LintFinding, Sentence, Verdict, VerdictValue
from audit_service.domain.sentences import say
from audit_service.domain.uncertainty import excludes_zero, holm, level

MOST_NOT_MEASURED = 0.2
"""Above this share the measured pairs are a selection that speaks for itself only."""


class Disparity(StrEnum):
    """The three outcomes of METHOD.md section 3, and that there is none."""

    FOUND = "found"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not_measured"


OUTCOMES = {
    "verdict.no_pairs": Disparity.NOT_MEASURED,
    "verdict.low_coverage": Disparity.NOT_MEASURED,
    "verdict.equivalent": Disparity.EQUIVALENT,
    "verdict.irrelevant": Disparity.EQUIVALENT,
    "verdict.one_sided_flips": Disparity.EQUIVALENT,
    "verdict.material": Disparity.FOUND,
    "verdict.above_threshold": Disparity.FOUND,
    "verdict.below_threshold": Disparity.FOUND,
}
"""Reason of the verdict → outcome of the mean gap; every other reason leaves it inconclusive."""


class Judged(NamedTuple):
    """One contrast with its adjusted p values and its verdict."""

    assessment: Assessment
    p_holm: float | None
    flips_p_holm: float | None
    value: VerdictValue
    reasons: tuple[Sentence, ...]
    deciding: Assessment
    """The assessment that the verdict rests on: by clusters, or by whole cue pairs."""

    @property
    def outcome(self) -> Disparity:
        return OUTCOMES.get(self.reasons[0].id, Disparity.INCONCLUSIVE)


def judge_contrasts(assessments: Sequence[Assessment], *, alpha: float, others: int = 0) -> tuple[Judged, ...]:
    """The family is everything given, all attributes, groups and forms of the run, and ``others`` elsewhere."""
    gaps = _holm([assessment.p_value for assessment in assessments], others)
    flips = _holm([assessment.flips_p for assessment in assessments], others)
    judged = []
    for assessment, p, net in zip(assessments, gaps, flips, strict=True):
        value, reason = contrast_verdict(assessment, p_holm=p, flips_p_holm=net, alpha=alpha)
        judged.append(Judged(assessment, p, net, value, (reason,), assessment))
    return tuple(judged)


CAUTION = (
    VerdictValue.PASS,
    VerdictValue.FAIL,
    VerdictValue.CONCERN,
    VerdictValue.INCONCLUSIVE,
    VerdictValue.NOT_MEASURED,
)
"""From what claims most to what claims least."""


def confirmed(by_cluster: Judged, by_cues: Judged) -> Judged:
    """The more cautious of two verdicts on the same contrast; numbers stay those by clusters.

    Clusters (template x cue pair) that share cues across templates are not independent of each other, so what they show
    must also be shown by whole cue pairs.
    """
    if CAUTION.index(by_cues.value) <= CAUTION.index(by_cluster.value):
        return by_cluster
    verdict = by_cluster.value.replace("_", " ")
    why = say("verdict.by_cues", group=by_cluster.assessment.group, verdict=verdict)
    return by_cluster._replace(value=by_cues.value, reasons=(*by_cues.reasons, why), deciding=by_cues.assessment)


def _holm(p_values: Sequence[float | None], others: int) -> list[float | None]:
    """Untested contrasts stay None and take no part in the family."""
    adjusted = iter(holm([p for p in p_values if p is not None], others=others))
    return [None if p is None else next(adjusted) for p in p_values]


def contrast_verdict(
    assessment: Assessment, *, p_holm: float | None, flips_p_holm: float | None, alpha: float
) -> tuple[VerdictValue, Sentence]:
    """The first row of the table that applies, and its reason."""
    value, reason = _row(assessment, p_holm, flips_p_holm, alpha)
    estimate = assessment.gap
    known = {
        "gap": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "flips": assessment.flips,
        "p_value": p_holm,
    }
    return value, say(
        reason,
        group=assessment.group,
        favoured=assessment.favoured,
        unit=assessment.unit,
        pairs=assessment.pairs,
        not_measured=assessment.not_measured,
        clusters=assessment.clusters,
        needed=assessment.needed,
        threshold=assessment.threshold,
        delta=assessment.delta,
        level=level(alpha),
        **{name: number for name, number in known.items() if number is not None},
    )


def _row(
    assessment: Assessment, p_holm: float | None, flips_p_holm: float | None, alpha: float
) -> tuple[VerdictValue, str]:
    if (unknown := _unknown(assessment)) is not None:
        return unknown
    shown = p_holm is not None and p_holm < alpha
    equivalence_p = assessment.equivalence_p
    if equivalence_p is not None and equivalence_p < alpha:
        if flips_p_holm is not None and flips_p_holm < alpha:
            return VerdictValue.CONCERN, "verdict.one_sided_flips"
        return VerdictValue.PASS, "verdict.irrelevant" if shown else "verdict.equivalent"
    if shown:
        return _disparity(assessment)
    by_itself = excludes_zero(assessment.gap) and p_holm is not None
    return VerdictValue.INCONCLUSIVE, "verdict.not_after_holm" if by_itself else "verdict.undecided"


def _unknown(assessment: Assessment) -> tuple[VerdictValue, str] | None:
    measured = assessment.pairs - assessment.not_measured
    if assessment.pairs == 0:
        return VerdictValue.NOT_MEASURED, "verdict.no_pairs"
    if measured == 0 or assessment.not_measured > MOST_NOT_MEASURED * assessment.pairs:
        return VerdictValue.NOT_MEASURED, "verdict.low_coverage"
    if assessment.clusters < assessment.needed:
        return VerdictValue.INCONCLUSIVE, "verdict.too_few_clusters"
    if assessment.gap.low is None or assessment.mean is None:
        return VerdictValue.INCONCLUSIVE, "verdict.no_variation"
    return None


def _disparity(assessment: Assessment) -> tuple[VerdictValue, str]:
    estimate, threshold = assessment.gap, assessment.threshold
    value, low, high = estimate.value or 0.0, estimate.low or 0.0, estimate.high or 0.0
    if low >= threshold or high <= -threshold:
        return VerdictValue.FAIL, "verdict.material"
    beyond = abs(value) >= threshold
    return VerdictValue.CONCERN, "verdict.above_threshold" if beyond else "verdict.below_threshold"


def worst(values: Iterable[VerdictValue]) -> VerdictValue:
    """What several parts say together; unknown never counts as good."""
    parts = set(values)
    for decisive in (VerdictValue.FAIL, VerdictValue.CONCERN):
        if decisive in parts:
            return decisive
    return parts.pop() if len(parts) == 1 else VerdictValue.INCONCLUSIVE if parts else VerdictValue.NOT_MEASURED


def form_verdict(form: str, judged: Sequence[Judged], protocol: Sequence[LintFinding] = ()) -> Verdict:
    """The verdict on one form: over its contrasts, held back where the protocol was broken."""
    reasons = tuple(reason for one in judged for reason in one.reasons) or (say("verdict.nothing"),)
    value = worst(one.value for one in judged)
    if (broken := broken_rules(protocol)) and value in {VerdictValue.PASS, VerdictValue.FAIL}:
        return Verdict(
            scope=form, value=VerdictValue.INCONCLUSIVE, reasons=(say("verdict.protocol", rules=broken), *reasons)
        )
    return Verdict(scope=form, value=value, reasons=reasons)


def broken_rules(protocol: Sequence[LintFinding]) -> str:
    """The rules whose breach holds a verdict back, in words."""
    return ", ".join(dict.fromkeys(finding.rule for finding in protocol if finding.level is Level.ERROR))


def behavior_verdict(forms: Sequence[Verdict]) -> Verdict:
    """The verdict on the behavior: over its forms, which may disagree."""
    reasons = tuple(say("verdict.form", form=form.scope, verdict=form.value.replace("_", " ")) for form in forms)
    return Verdict(
        scope="behavior", value=worst(form.value for form in forms), reasons=reasons or (say("verdict.nothing"),)
    )
