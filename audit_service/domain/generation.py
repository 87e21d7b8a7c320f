"""Prompt pairs generated from a behavior's templates. The same behavior always gives the same pairs.

The behavior's digest does not know the order of its tables' entries, so nothing here follows it: names are sorted.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from string import Formatter
from typing import NamedTuple

from audit_service.domain.behaviors import Attribute, Behavior, Form
from audit_service.domain.pairs import Pair, PairKind, PairSet, Segment
from audit_service.errors import InvalidBehavior

MOST_PAIRS = 200_000
"""What one behavior gives at most: a request of some kilobytes must not fill the service's memory."""


class CuePair(NamedTuple):
    """Two cues of one stratum that are set against each other wherever the attribute appears."""

    kind: PairKind
    reference_group: str
    comparison_group: str
    reference: str
    comparison: str


def generate(behavior: Behavior) -> PairSet:
    """Every form x template x profile x cue pair of the behavior, contrast and placebo.

    Raises InvalidBehavior if they would be more than MOST_PAIRS.
    """
    if (count := pairs_of(behavior)) > MOST_PAIRS:
        raise InvalidBehavior(
            f"The behavior would give {count:,} pairs; {MOST_PAIRS:,} are the most.",
            remedy="Declare fewer forms, templates, profiles, cues or placebo pairs.",
        )
    pairs = tuple(
        _pair(behavior, form=form, attribute=attribute, template=template, profile=profile, cues=cues)
        for form in behavior.forms
        for attribute in behavior.attributes
        for template in sorted(behavior.templates)
        for profile in sorted(behavior.profiles)
        for cues in cue_pairs(
            attribute, placebo_per_group=behavior.pairing.placebo_pairs_per_group, seed=behavior.pairing.seed
        )
    )
    return PairSet(name=behavior.name, pairs=pairs)


def pairs_of(behavior: Behavior) -> int:
    """How many pairs the behavior gives."""
    placebo, seed = behavior.pairing.placebo_pairs_per_group, behavior.pairing.seed
    cues = sum(len(cue_pairs(one, placebo_per_group=placebo, seed=seed)) for one in behavior.attributes)
    return len(behavior.forms) * len(behavior.templates) * len(behavior.profiles) * cues


def cue_pairs(attribute: Attribute, *, placebo_per_group: int, seed: int) -> tuple[CuePair, ...]:
    """The attribute's contrast pairs, then its placebo pairs.

    Within a stratum each cue meets at most one cue of each other group, so that clusters share no cue: the one at its
    own place if the attribute is matched, otherwise one at random, and where the groups differ in size the larger
    one's surplus is left out.
    """
    return (*_contrasts(attribute, seed), *_placebos(attribute, placebo_per_group, seed))


def _contrasts(attribute: Attribute, seed: int) -> Iterator[CuePair]:
    reference = attribute.reference
    for group in sorted(attribute.groups):
        if group == reference:
            continue
        for stratum in sorted(attribute.groups[reference]):
            ours, theirs = (_as_they_meet(attribute, name, stratum, seed) for name in (reference, group))
            for one, other in zip(ours, theirs, strict=False):
                yield CuePair(PairKind.CONTRAST, reference, group, one, other)


def _placebos(attribute: Attribute, per_group: int, seed: int) -> Iterator[CuePair]:
    for group in sorted(attribute.groups):
        columns = []
        for stratum in sorted(attribute.groups[group]):
            cues = _shuffled(attribute, group, stratum, seed)
            columns.append(list(zip(cues[::2], cues[1::2], strict=False)))
        # Strata take turns, so that a small number of placebo pairs still covers each of them.
        turns = (pair for row in zip_longest(*columns) for pair in row if pair is not None)
        for one, other in islice(turns, per_group):
            yield CuePair(PairKind.PLACEBO, group, group, one, other)


def _as_they_meet(attribute: Attribute, group: str, stratum: str, seed: int) -> Sequence[str]:
    return attribute.groups[group][stratum] if attribute.matched else _shuffled(attribute, group, stratum, seed)


def _shuffled(attribute: Attribute, group: str, stratum: str, seed: int) -> list[str]:
    cues = list(attribute.groups[group][stratum])
    random.Random(f"{seed}/{attribute.name}/{group}/{stratum}").shuffle(cues)  # noqa: S311 - a design, not a secret
    return cues


def _pair(behavior: Behavior, *, form: Form, attribute: Attribute, template: str, profile: str, cues: CuePair) -> Pair:
    fields = behavior.profiles[profile] | _held_fixed(behavior, attribute)
    return Pair(
        id=f"{form.name}.{attribute.name}.{template}.{profile}.{cues.reference}~{cues.comparison}",
        kind=cues.kind,
        form=form.name,
        form_kind=form.kind,
        system=form.system,
        attribute=attribute.name,
        reference_group=cues.reference_group,
        comparison_group=cues.comparison_group,
        template=template,
        profile=profile,
        reference_cue=cues.reference,
        comparison_cue=cues.comparison,
        cluster=f"{template}|{cues.reference}~{cues.comparison}",
        segments=_segments(behavior.templates[template] + form.suffix, attribute.placeholder, fields, cues),
    )


def _held_fixed(behavior: Behavior, varied: Attribute) -> dict[str, str]:
    """While one attribute varies, the others stay at the first cue of their reference group."""
    return {
        other.placeholder: next(cue for _, cues in sorted(other.groups[other.reference].items()) for cue in cues)
        for other in behavior.attributes
        if other is not varied
    }


def _segments(template: str, placeholder: str, fields: Mapping[str, str], cues: CuePair) -> tuple[Segment, ...]:
    """Shared text and cues in turn: before, cue, after, cue_2, after_2 and so on."""
    shared = ""
    segments: list[Segment] = []
    for text, field, _, _ in Formatter().parse(template):
        shared += text
        if field == placeholder:
            segments += [_shared(len(segments), shared), _cue(len(segments), cues)]
            shared = ""
        elif field is not None:
            shared += fields[field]
    return (*segments, _shared(len(segments), shared))


def _shared(index: int, text: str) -> Segment:
    name = "before" if index == 0 else _numbered("after", index // 2)
    return Segment(name=name, reference=text, comparison=text)


def _cue(index: int, cues: CuePair) -> Segment:
    return Segment(name=_numbered("cue", index // 2 + 1), reference=cues.reference, comparison=cues.comparison)


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name}_{count}"
