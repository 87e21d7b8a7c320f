"""The protocol linter: what METHOD.md section 6 asks of a plan before a run, and of its results after it.

Each rule has a stable id, a level, a sentence and a remedy (both in sentences.py). Errors hold a verdict back and
should stop a run from starting; warnings and notes are printed beside the numbers.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Mapping as Lookup
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from audit_service.domain.behaviors import Behavior
from audit_service.domain.cells import DecisionTable
from audit_service.domain.disparity import Assessment
from audit_service.domain.pairs import Pair, PairKind
from audit_service.domain.plan import Corruption, Direction, Judging, Mapping, Plan, Tracing
from audit_service.domain.power import designs, spread_of
from audit_service.domain.preview import Preview
from audit_service.domain.results import Level, LintFinding, Result
from audit_service.domain.sentences import say
from audit_service.domain.trace import Control
from audit_service.domain.uncertainty import fewest_clusters
from audit_service.domain.verdict import Judged

Rows: TypeAlias = Lookup[str, Result]

SATURATED = 0.01
"""A probability this near to 0 or 1 hides effects (METHOD.md section 4)."""
TOO_MANY_SATURATED = 0.05


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model's tokenizer, and the model itself, say about the prompts; None where nobody has asked them."""

    unequal_spans: float | None = None
    """Share of pairs whose cues differ in token length."""
    low_coverage: float | None = None
    """Share of prompts below the declared minimum coverage."""
    saturated: float | None = None
    """Share of prompts whose probability is within ``SATURATED`` of 0 or 1."""
    spread: float | None = None
    """Standard deviation of the clusters' gaps in a preview (nats)."""
    run: bool = False
    """Whether the run is over, so that its results tell what only they can."""

    @classmethod
    def of(cls, decisions: DecisionTable, *, min_coverage: float, unequal_spans: float | None = None) -> Self:
        """From all cells of a run; prompts without a finite decision take no part."""
        coverage, d = decisions.coverage[decisions.finite()], decisions.d[decisions.finite()]
        if not len(d):
            return cls(unequal_spans, 0.0, 0.0, run=True)
        return cls(unequal_spans, float((coverage < min_coverage).mean()), saturated(d), run=True)

    @classmethod
    def of_sample(cls, preview: Preview) -> Self:
        """From a preview of the pair set on this model: a sample of each form."""
        pairs = [form.pairs for form in preview.forms]
        mean = partial(np.average, weights=pairs)
        return cls(
            float(mean([form.unequal_spans for form in preview.forms])),
            float(mean([form.below_min_coverage for form in preview.forms])),
            float(mean([form.saturated for form in preview.forms])),
            max((form.gap_spread for form in preview.forms if form.gap_spread), default=None),
        )


def saturated(d: NDArray[np.floating]) -> float:
    """Share of decision values whose probability hides effects."""
    p = expit(d.astype(np.float64))
    return float(((p < SATURATED) | (p > 1 - SATURATED)).mean())


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan as far as the protocol reads it: it need not name a model yet."""

    behavior: Behavior
    tracing: Tracing
    judging: Judging
    pairs: tuple[Pair, ...]
    exploratory: bool
    predecessor: str | None
    seen: Seen
    traced: Collection[str] = ()
    """Ids of the pairs that may be traced; none where any may be."""
    left_out: Sequence[str] = ()
    """What a budget left out of what was asked for."""

    @property
    def forms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(form.name for form in self.behavior.forms), *(pair.form for pair in self.pairs)]))

    def of_form(self, form: str, kind: PairKind) -> list[Pair]:
        return [pair for pair in self.pairs if pair.form == form and pair.kind is kind]


def lint(
    *,
    behavior: Behavior,
    tracing: Tracing,
    judging: Judging,
    pairs: Sequence[Pair],
    exploratory: bool = False,
    predecessor: str | None = None,
    seen: Seen | None = None,
    traced: Collection[str] = (),
    left_out: Sequence[str] = (),
) -> tuple[LintFinding, ...]:
    """Every rule that the draft of a plan does not keep, in the order of the rules' ids.

    ``seen`` adds what only the model can tell; a rule that asks for more than is known says that it was not evaluated.
    """
    draft = Draft(behavior, tracing, judging, tuple(pairs), exploratory, predecessor, seen or Seen(), traced, left_out)
    findings = (finding for rule in RULES for finding in rule(draft))
    return tuple(sorted(findings, key=lambda finding: finding.rule))


def lint_plan(plan: Plan, pairs: Sequence[Pair], seen: Seen | None = None) -> tuple[LintFinding, ...]:
    """``lint`` of a finished plan."""
    return lint(
        behavior=plan.behavior,
        tracing=plan.tracing,
        judging=plan.judging,
        pairs=pairs,
        exploratory=plan.exploratory,
        predecessor=plan.predecessor,
        seen=seen,
        traced=plan.traced,
        left_out=() if plan.scope is None else plan.scope.left_out,
    )


def finding(rule: str, level: Level, **values: float | str) -> LintFinding:
    return LintFinding(
        rule=rule, level=level, sentence=say(f"lint.{rule}", **values), remedy=say(f"remedy.{rule}", **values)
    )


def _not_evaluated(rule: str) -> LintFinding:
    """What the rule asks is not known yet: said, so that silence is never taken for its being kept."""
    return LintFinding(rule=rule, level=Level.NOTE, sentence=say(f"unseen.{rule}"), remedy=say("remedy.unseen"))


def _unequal_spans(draft: Draft) -> Iterator[LintFinding]:
    share = draft.seen.unequal_spans
    if share is None:
        yield _not_evaluated("P001")
    elif share:
        left_out = draft.tracing.mapping is Mapping.EQUAL_ONLY
        sentence = say("left_out.P001" if left_out else "lint.P001", share=share)
        level = Level.WARNING if left_out else Level.NOTE
        yield LintFinding(rule="P001", level=level, sentence=sentence, remedy=say("remedy.P001"))


def _colliding_answers(draft: Draft) -> Iterator[LintFinding]:
    """Spellings alone; labels whose tokens collide are refused by the tokenizer (domain.labels)."""
    labels = draft.behavior.labels
    if collisions := sorted(set(labels.favorable) & set(labels.unfavorable)):
        yield finding("P002", Level.ERROR, labels=", ".join(map(repr, collisions)))


def _low_coverage(draft: Draft) -> Iterator[LintFinding]:
    share = draft.seen.low_coverage
    if share is None:
        yield _not_evaluated("P003")
    elif share:
        yield finding("P003", Level.WARNING, share=share, minimum=draft.behavior.min_coverage)


def _total_effects(draft: Draft) -> Iterator[LintFinding]:
    """Only traces tell them; ``lint_results`` reads them."""
    if not draft.seen.run:
        sentence, remedy = say("unseen.P004"), say("remedy.unseen.P004")
        yield LintFinding(rule="P004", level=Level.NOTE, sentence=sentence, remedy=remedy)


def _saturation(draft: Draft) -> Iterator[LintFinding]:
    share = draft.seen.saturated
    if share is None:
        yield _not_evaluated("P005")
    elif share >= TOO_MANY_SATURATED:
        yield finding("P005", Level.WARNING, share=share)


def _corruptions(draft: Draft) -> Iterator[LintFinding]:
    if set(draft.tracing.corruptions) == {Corruption.GAUSSIAN}:
        yield finding("P006", Level.WARNING)


def _directions(draft: Draft) -> Iterator[LintFinding]:
    if len(set(draft.tracing.directions)) == 1:
        yield finding("P007", Level.WARNING, direction=draft.tracing.directions[0])


def _windows(draft: Draft) -> Iterator[LintFinding]:
    if 1 not in draft.tracing.windows:
        yield finding("P008", Level.WARNING)


def _placebo(draft: Draft) -> Iterator[LintFinding]:
    without = [form for form in draft.forms if not draft.of_form(form, PairKind.PLACEBO)]
    if without:
        where = "" if len(without) == len(draft.forms) else f" in form {', '.join(without)}"
        yield finding("P009", Level.WARNING, where=where)


def _groups(draft: Draft) -> Iterator[LintFinding]:
    needed = fewest_clusters(draft.judging.alpha)
    for form in draft.forms:
        contrast = draft.of_form(form, PairKind.CONTRAST)
        for attribute in draft.behavior.attributes:
            for group in attribute.groups:
                if group == attribute.reference:
                    continue
                ours = [p for p in contrast if (p.attribute, p.comparison_group) == (attribute.name, group)]
                clusters = len({pair.cluster for pair in ours})
                if not ours:
                    yield finding("P015", Level.ERROR, group=group, attribute=attribute.name, form=form)
                elif clusters < needed:
                    yield finding("P010", Level.WARNING, group=group, form=form, clusters=clusters, needed=needed)


def _threshold(draft: Draft) -> Iterator[LintFinding]:
    threshold, delta = draft.behavior.threshold, draft.judging.delta_nats
    if not threshold.source:
        yield finding("P011", Level.WARNING)
    if delta > threshold.gap_nats:
        yield finding("P013", Level.ERROR, delta=delta, threshold=threshold.gap_nats)


def _sliding(draft: Draft) -> Iterator[LintFinding]:
    if draft.exploratory:
        yield finding("P012", Level.WARNING)
    elif draft.predecessor is not None:
        yield finding("P021", Level.ERROR)


def _deployment(draft: Draft) -> Iterator[LintFinding]:
    if not draft.behavior.deployment_note:
        yield finding("P014", Level.NOTE)


def _shared_cues(draft: Draft) -> Iterator[LintFinding]:
    for form in draft.forms:
        contrast = draft.of_form(form, PairKind.CONTRAST)
        cues = len({(pair.reference_cue, pair.comparison_cue) for pair in contrast})
        if cues < len({pair.cluster for pair in contrast}):
            yield finding("P016", Level.NOTE, form=form, cues=cues)


def _traced(draft: Draft) -> Iterator[LintFinding]:
    needed = fewest_clusters(draft.judging.alpha)
    for form in draft.forms:
        contrast = draft.of_form(form, PairKind.CONTRAST)
        available = len({pair.cluster for pair in contrast if not draft.traced or pair.id in draft.traced})
        clusters = min(available, draft.tracing.pairs_per_form)
        if clusters < needed:
            yield finding("P018", Level.WARNING, form=form, clusters=clusters, needed=needed)


def _left_out(draft: Draft) -> Iterator[LintFinding]:
    if draft.left_out:
        yield finding("P024", Level.NOTE, parts="; ".join(draft.left_out))


def _planned_power(draft: Draft) -> Iterator[LintFinding]:
    """Whether the margin can be told from zero, as far as is known before the run; afterwards the run itself tells."""
    if draft.seen.run:
        return
    spread, delta = spread_of(draft.behavior, draft.judging, previewed=draft.seen.spread), draft.judging.delta_nats
    kind, level = ("planned.P017", Level.WARNING) if spread.known else ("unseen.P017", Level.NOTE)
    for design in designs(draft.judging, draft.pairs, spread=spread.nats):
        if design.effect is not None and design.names_needed is not None and design.effect > delta:
            sentence = say(kind, group=design.group, spread=spread.nats, mde=design.effect, delta=delta)
            remedy = say(f"remedy.{kind}", names=design.names_needed)
            yield LintFinding(rule="P017", level=level, sentence=sentence, remedy=remedy)


def lint_results(
    plan: Plan,
    decisions: DecisionTable,
    *,
    judged: Sequence[Judged],
    rows: Sequence[Result],
    controls: Sequence[Control],
) -> tuple[LintFinding, ...]:
    """The rules that only the results can tell."""
    by_key = {row.key: row for row in rows}
    return (
        *_weak_totals(plan, by_key),
        *(found for one in judged for found in _low_power(plan, one.deciding)),
        *(found for one in judged for found in _flips_like_placebo(one.assessment, by_key)),
        *(found for part in _traces(plan) for found in _below_the_floor(*part, plan=plan, rows=by_key)),
        *([] if controls else [finding("P019", Level.ERROR)]),
        *_not_finite(decisions),
    )


def _weak_totals(plan: Plan, rows: Rows) -> Iterator[LintFinding]:
    """Each traced form and direction; one without an interval of its total effect cannot be told."""
    for form, direction in _traces(plan):
        total = rows.get(f"{form}.{direction}.total_effect")
        if total is None or total.low is None or total.high is None:
            where = {"form": form, "direction": direction}
            sentence, remedy = say("unmeasured.P004", **where), say("remedy.unmeasured.P004")
            yield LintFinding(rule="P004", level=Level.NOTE, sentence=sentence, remedy=remedy)
        elif total.low <= 0 <= total.high:
            yield finding("P004", Level.WARNING, form=form, direction=direction, low=total.low, high=total.high)


def _low_power(plan: Plan, assessment: Assessment) -> Iterator[LintFinding]:
    if assessment.mean is None:
        return
    mde, delta = assessment.mean.detectable(plan.judging.alpha), plan.judging.delta_nats
    if mde > delta:
        clusters = math.ceil(assessment.clusters * (mde / delta) ** 2)
        yield finding(
            "P017",
            Level.WARNING,
            group=assessment.group,
            form=assessment.form,
            mde=mde,
            delta=delta,
            clusters=clusters,
        )


def _flips_like_placebo(assessment: Assessment, rows: Rows) -> Iterator[LintFinding]:
    excess = rows.get(f"{assessment.key}.flips_over_placebo")
    if excess is not None and excess.low is not None and excess.low <= 0:
        yield finding("P022", Level.NOTE, form=assessment.form, group=assessment.group)


def _traces(plan: Plan) -> Iterator[tuple[str, Direction]]:
    return product((form.name for form in plan.behavior.forms), plan.tracing.directions)


def _below_the_floor(form: str, direction: Direction, *, plan: Plan, rows: Rows) -> Iterator[LintFinding]:
    """Named sites whose effect is no larger than what some site shows in the placebo pairs."""
    key = f"{form}.{direction}"
    floor = rows.get(f"{key}.placebo_floor")
    if floor is None or floor.value is None or floor.n is None:
        return
    named = [
        abs(effect.value)
        for site in plan.sites
        if (p := rows.get(f"{key}.{site.key}.p_maxt")) is not None
        and p.value is not None
        and p.value < plan.judging.alpha
        and (effect := rows[f"{key}.{site.key}"]).value is not None
    ]
    below = sum(effect <= floor.value for effect in named)
    if below:
        yield finding(
            "P023",
            Level.NOTE,
            form=form,
            direction=direction,
            below=below,
            named=len(named),
            floor=floor.value,
            pairs=floor.n,
        )


def _not_finite(decisions: DecisionTable) -> Iterator[LintFinding]:
    if count := int((~decisions.finite()).sum()):
        yield finding("P020", Level.WARNING, count=count)


RULES: tuple[Callable[[Draft], Iterator[LintFinding]], ...] = (
    _unequal_spans,
    _colliding_answers,
    _low_coverage,
    _total_effects,
    _saturation,
    _corruptions,
    _directions,
    _windows,
    _placebo,
    _groups,
    _threshold,
    _sliding,
    _deployment,
    _shared_cues,
    _traced,
    _planned_power,
    _left_out,
)
