"""A plan put together from its parts, refused where they do not fit each other."""

from collections.abc import Collection, Iterator, Sequence

from audit_service.domain.behaviors import Behavior
from audit_service.domain.pairs import PairKind, PairSet
from audit_service.domain.plan import (
    ABLATIONS,
    Corruption,
    Direction,
    Judging,
    Mapping,
    ModelIdentity,
    PairSetIdentity,
    Plan,
    Tracing,
)
from audit_service.domain.readings import DEFAULT, MetricDefinition
from audit_service.domain.shards import traced_pairs
from audit_service.domain.sites import ALL, DECISION, KV_KINDS, POSITIONED, SiteKind
from audit_service.errors import InvalidInput


def compose(
    model: ModelIdentity,
    behavior: Behavior,
    pair_set: PairSet,
    *,
    tracing: Tracing,
    judging: Judging,
    metrics: tuple[MetricDefinition, ...] = DEFAULT,
    unequal: Collection[str] | None = None,
) -> Plan:
    """The plan of these parts; ``unequal`` are the pairs whose cues have more of the model's tokens on one side.

    None of these is traced where the tracing maps equal spans alone; None says that nobody asked the tokenizer.

    Raises:
        InvalidInput: the pairs are not about this behavior, or segments, layers or answers are asked for that are not
            there.
    """
    if misfits := [
        *_foreign_pairs(behavior, pair_set),
        *_missing(behavior, pair_set),
        *_sites(tracing, pair_set),
        *_traces(tracing, model),
        *_heads(tracing, model, unequal),
        *_metrics(metrics, behavior),
    ]:
        raise InvalidInput(
            f"Pair set {pair_set.name!r}, behavior {behavior.name!r} and the tracing do not fit each other.",
            remedy="Use pairs that were made for this behavior, and segments and sites that the pairs allow.",
            details=misfits,
        )
    share = None if unequal is None else len(unequal) / len(pair_set.pairs)
    identity = PairSetIdentity(
        name=pair_set.name, digest=pair_set.digest, pairs=len(pair_set.pairs), unequal_spans=share
    )
    if not KV_KINDS & set(tracing.kinds):
        # What a plan does not use is no part of it: it keeps the digest that it had before these heads were counted.
        model = model.model_copy(update={"kv_heads": None})
    plan = Plan(model=model, behavior=behavior, pair_set=identity, tracing=tracing, judging=judging, metrics=metrics)
    if not unequal or tracing.mapping is not Mapping.EQUAL_ONLY:
        return plan
    return changed(plan, traced=_equal_pairs(plan, pair_set, unequal))


def changed_after(terms: Plan, seen: Plan) -> Plan:
    """The terms as an exploratory plan, because the results of another one were seen before they were set."""
    return changed(terms, exploratory=True, predecessor=seen.digest)


def changed(plan: Plan, **changes: object) -> Plan:
    """The plan with other terms, and so another digest."""
    # Not model_copy: a copy would keep the digest.
    return Plan(**{name: getattr(plan, name) for name in Plan.model_fields} | changes)


def _equal_pairs(plan: Plan, pair_set: PairSet, unequal: Collection[str]) -> tuple[str, ...]:
    """The pairs to trace among those of equal spans; InvalidInput for a form that has no such contrast."""
    left = PairSet(name=pair_set.name, pairs=tuple(pair for pair in pair_set.pairs if pair.id not in unequal))
    drawn = {form.name: traced_pairs(plan, left, form.name) for form in plan.behavior.forms}
    if empty := [form for form, pairs in drawn.items() if all(pair.kind is PairKind.PLACEBO for pair in pairs)]:
        raise InvalidInput(
            f"No contrast of the form {', '.join(empty)} has cues of equal token length, which the mapping asks for.",
            remedy="Use cues of equal token length in this model's tokenizer, or the mapping right_aligned.",
        )
    return tuple(pair.id for pairs in drawn.values() for pair in pairs)


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


def _traces(tracing: Tracing, model: ModelIdentity) -> Iterator[str]:
    if wrong := [width for width in tracing.windows if not 1 <= width <= model.layers]:
        yield f"windows of {wrong} layers; the model has {model.layers}"
    if idle := sorted(set(tracing.layer_steps) - set(tracing.kinds)):
        yield f"layer steps of {', '.join(idle)}, which are not patched"
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


def _heads(tracing: Tracing, model: ModelIdentity, unequal: Collection[str] | None) -> Iterator[str]:
    """Queries, keys, values and patterns where they have no counterpart on the other side, or are not counted."""
    kinds = list(dict.fromkeys(tracing.kinds))
    if (unequal is None or unequal) and tracing.mapping is not Mapping.EQUAL_ONLY:
        yield from (
            f"{kind} carries its token's position, and not all cues have equal token lengths: use the mapping "
            "equal_only, which traces the pairs that have, or v or z"
            for kind in kinds
            if kind in POSITIONED
        )
    if Corruption.RESAMPLE in tracing.corruptions and (
        tracing.mapping is Mapping.EQUAL_ONLY or POSITIONED & set(kinds)
    ):
        yield "resample takes prompts of other pairs, whose tokens stand elsewhere: leave it out, or map right_aligned"
    if SiteKind.PATTERN in kinds and set(tracing.corruptions) & ABLATIONS:
        yield "a donor of zeros or means has no attention pattern of its own: ablate z instead"
    if KV_KINDS & set(kinds) and model.kv_heads is None:
        yield "the model version was registered before its heads of keys and values were counted: register it again"


def _metrics(metrics: Sequence[MetricDefinition], behavior: Behavior) -> Iterator[str]:
    names = [metric.name for metric in metrics]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield f"metrics of one name: {', '.join(repeated)}"
    for metric in metrics:
        if unknown := sorted(metric.answers() - set(behavior.answers)):
            yield f"metric {metric.name!r} asks for the answers {unknown}, which the behavior does not declare"
        if "expected_amount" in metric.names() and not behavior.answers:
            yield f"metric {metric.name!r} asks for an expected amount, and the behavior declares no numeric answers"
