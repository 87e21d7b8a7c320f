"""A plan put together from its parts, refused where they do not fit each other."""

from collections.abc import Iterator

from audit_service.domain.behaviors import Behavior
from audit_service.domain.pairs import PairKind, PairSet
from audit_service.domain.plan import Judging, ModelIdentity, PairSetIdentity, Plan, Tracing
from audit_service.domain.sites import ALL, DECISION, SiteKind
from audit_service.errors import InvalidInput

ALIGNED = frozenset({SiteKind.Q, SiteKind.K, SiteKind.V, SiteKind.PATTERN})
"""Sites inside the attention, which a plan over cues of different length cannot exchange."""


def compose(model: ModelIdentity, behavior: Behavior, pair_set: PairSet, *, tracing: Tracing, judging: Judging) -> Plan:
    """The plan of these parts.

    Raises:
        InvalidInput: the pairs are not about this behavior, or segments are asked for that no pair has.
    """
    if misfits := [*_foreign_pairs(behavior, pair_set), *_missing(behavior, pair_set), *_sites(tracing, pair_set)]:
        raise InvalidInput(
            f"Pair set {pair_set.name!r}, behavior {behavior.name!r} and the tracing do not fit each other.",
            remedy="Use pairs that were made for this behavior, and segments and sites that the pairs allow.",
            details=misfits,
        )
    identity = PairSetIdentity(name=pair_set.name, digest=pair_set.digest, pairs=len(pair_set.pairs))
    return Plan(model=model, behavior=behavior, pair_set=identity, tracing=tracing, judging=judging)


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
