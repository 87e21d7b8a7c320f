"""A plan put together from its parts, refused where they do not fit each other."""

from collections.abc import Iterator, Sequence

from audit_service.domain.behaviors import Behavior
from audit_service.domain.pairs import PairKind, PairSet
from audit_service.domain.plan import (
    ABLATIONS,
    Corruption,
    Direction,
    Judging,
    ModelIdentity,
    PairSetIdentity,
    Plan,
    Tracing,
)
from audit_service.domain.readings import DEFAULT, MetricDefinition
from audit_service.domain.sites import ALL, DECISION, SiteKind
from audit_service.errors import InvalidInput

ALIGNED = frozenset({SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN})
"""Sites inside the attention, which a plan over cues of different length cannot exchange."""


def compose(
    model: ModelIdentity,
    behavior: Behavior,
    pair_set: PairSet,
    *,
    tracing: Tracing,
    judging: Judging,
    metrics: tuple[MetricDefinition, ...] = DEFAULT,
    unequal_spans: float | None = None,
) -> Plan:
    """The plan of these parts; ``unequal_spans`` is what the model's tokenizer says about the pairs.

    Raises:
        InvalidInput: the pairs are not about this behavior, or segments, layers or answers are asked for that are not
            there.
    """
    if misfits := [
        *_foreign_pairs(behavior, pair_set),
        *_missing(behavior, pair_set),
        *_sites(tracing, pair_set),
        *_traces(tracing, model),
        *_metrics(metrics, behavior),
    ]:
        raise InvalidInput(
            f"Pair set {pair_set.name!r}, behavior {behavior.name!r} and the tracing do not fit each other.",
            remedy="Use pairs that were made for this behavior, and segments and sites that the pairs allow.",
            details=misfits,
        )
    identity = PairSetIdentity(
        name=pair_set.name, digest=pair_set.digest, pairs=len(pair_set.pairs), unequal_spans=unequal_spans
    )
    return Plan(model=model, behavior=behavior, pair_set=identity, tracing=tracing, judging=judging, metrics=metrics)


def changed_after(terms: Plan, seen: Plan) -> Plan:
    """The terms as an exploratory plan, because the results of another one were seen before they were set."""
    # Not model_copy: a copy would keep the digest of the terms.
    content = {name: getattr(terms, name) for name in Plan.model_fields}
    return Plan(**content | {"exploratory": True, "predecessor": seen.digest})


def _foreign_pairs(behavior: Behavior, pair_set: PairSet) -> Iterator[str]:
    forms = {form.name: form.kind for form in behavior.forms}
    groups = {attribute.name: set(attribute.groups) for attribute in behavior.attributes}
    found = dict.fromkeys((pair.form, pair.form_kind) for pair in pair_set.pairs)
    for form, kind in found:
        if forms.get(form) is not kind:
            yield f"the behavior has no {kind} form {form!r}"
    used = dict.fromkeys(
        (pair.attribute, group) for pair in pair_set.pairs for group in (pair.reference_group, pair.comparison_group)
    )
    for attribute, group in used:
        if group not in groups.get(attribute, set()):
            yield f"the behavior has no group {group!r} of {attribute!r}"


def _missing(behavior: Behavior, pair_set: PairSet) -> Iterator[str]:
    contrasted = {(pair.form, pair.attribute) for pair in pair_set.pairs if pair.kind is PairKind.CONTRAST}
    for form in behavior.forms:
        for attribute in behavior.attributes:
            if (form.name, attribute.name) not in contrasted:
                yield f"no pair contrasts {attribute.name!r} in the form {form.name!r}"


def _sites(tracing: Tracing, pair_set: PairSet) -> Iterator[str]:
    known = {ALL, DECISION} | {segment.name for pair in pair_set.pairs for segment in pair.segments}
    for name in dict.fromkeys((*tracing.segments, *tracing.head_segments)):
        if name not in known:
            yield f"no pair has a segment {name!r}; there are {sorted(known)}"
    for kind in tracing.kinds:
        if kind in ALIGNED:
            yield f"{kind} needs equal token positions on both sides; patch it pair by pair with `audit-service trace`"


def _traces(tracing: Tracing, model: ModelIdentity) -> Iterator[str]:
    if wrong := [width for width in tracing.windows if not 1 <= width <= model.layers]:
        yield f"windows of {wrong} layers; the model has {model.layers}"
    if tracing.joint_sites == 1:
        yield "one joint site; sites are exchanged two by two"
    if SiteKind.NEURONS in tracing.kinds and set(tracing.corruptions) - {Corruption.PAIR, Corruption.RESAMPLE}:
        yield "neurons are exchanged between prompts: use the corruptions pair and resample"
    if Corruption.POSITIONAL_MEAN in tracing.corruptions:
        yield "positional_mean needs prompts of one length; trace pairs with it by `audit-service trace`"
    if Direction.NOISE not in tracing.directions:
        for corruption in tracing.corruptions:
            if corruption in ABLATIONS:
                yield f"the corruption {corruption} is traced by noising, which is not among the directions"


def _metrics(metrics: Sequence[MetricDefinition], behavior: Behavior) -> Iterator[str]:
    names = [metric.name for metric in metrics]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield f"metrics of one name: {', '.join(repeated)}"
    for metric in metrics:
        if unknown := sorted(metric.answers() - set(behavior.answers)):
            yield f"metric {metric.name!r} asks for the answers {unknown}, which the behavior does not declare"
        if "expected_amount" in metric.names() and not behavior.answers:
            yield f"metric {metric.name!r} asks for an expected amount, and the behavior declares no numeric answers"
