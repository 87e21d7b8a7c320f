"""What a plan is told to compute, from its tokens alone, is what the engine computes."""

from collections.abc import Sequence
from itertools import product

import pytest

from audit_service.domain.labels import LabelTokens
from audit_service.domain.layouts import Layout, layout_of
from audit_service.domain.plan import ABLATIONS, Corruption, Direction, Tracing
from audit_service.domain.sites import ALL, SiteKind, site_grid
from audit_service.domain.tracework import controls, trace
from audit_service.domain.work import Work
from tests.workers.engine.counting import Counted, counting
from tests.workers.engine.models import tiny
from workers.engine.costs import reading_of
from workers.engine.decisions import measure_decisions
from workers.engine.selfcheck import run_controls
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, EncodedPrompt
from workers.engine.variants import Setting, trace_variant

LABELS = LabelTokens.single(favorable=(3, 11), unfavorable=(12,))
PHRASES = LabelTokens(((3, 4, 5), (11,)), ((12, 4),))
CLASSES = LabelTokens.single(favorable=(1,), unfavorable=(0, 2))
SEGMENTS = ("before", "cue", "after", "decision", ALL)
WAYS = [(c, d) for c, d in product(Corruption, Direction) if c is not Corruption.POSITIONAL_MEAN
        and not (c in ABLATIONS and d is Direction.DENOISE)]  # fmt: skip


def prompt(before: Sequence[int], cue: Sequence[int], after: Sequence[int], decision: int = 9) -> EncodedPrompt:
    ids = (*before, *cue, *after, decision)
    edges = (0, len(before), len(before) + len(cue), len(ids) - 1, len(ids))
    return EncodedPrompt(ids, {name: tuple(range(edges[i], edges[i + 1])) for i, name in enumerate(SEGMENTS[:4])})


def pair(name: str, one: Sequence[int], other: Sequence[int], after: Sequence[int] = (7, 8, 6, 5)) -> EncodedPair:
    return EncodedPair(name, prompt((5, 17, 33), one, after), prompt((5, 17, 33), other, after))


EQUAL = pair("equal", (40, 41), (50, 41))
LONGER = pair("longer", (40, 41), (50, 51, 52))
SHORTER = pair("shorter", (40, 41, 42), (50,), after=(7, 8, 6, 5, 5, 4))


def layout(subject: Subject, pairs: Sequence[EncodedPair], labels: LabelTokens) -> Layout:
    return layout_of([(one.clean, one.corrupt) for one in pairs], reading_of(subject, labels))


def told_and_done(
    subject: Subject,
    pairs: Sequence[EncodedPair],
    kinds: Sequence[SiteKind],
    labels: LabelTokens,
    way: tuple[Corruption, Direction],
    *,
    windows: Sequence[int] = (1,),
    all_readouts: bool = False,
) -> tuple[Work, Counted]:
    """The predicted and the counted work of tracing each of the pairs once, at all sites of the kinds."""
    sites = [
        site for kind in kinds
        for site in site_grid([kind], layers=3, heads=2 if kind in {SiteKind.K, SiteKind.V} else 4, segments=SEGMENTS,
                              head_segments=SEGMENTS, windows=windows)
    ]  # fmt: skip
    corruption, direction = way
    draws = 2 if corruption is Corruption.GAUSSIAN else 1
    told = trace(sites, layout(subject, pairs, labels), corruption=corruption, direction=direction, draws=draws,
                 others=1, all_readouts=all_readouts)  # fmt: skip
    setting = Setting(direction, corruption, Tracing(noise_draws=2), all_readouts)
    with counting(subject) as done:
        for number, one in enumerate(pairs):
            other = pairs[(number + max(1, len(pairs) // 2)) % len(pairs)].corrupt
            trace_variant(subject, one, [site.parts for site in sites], setting, labels=labels, others=[other])
    return told.times(len(pairs)), done


@pytest.mark.parametrize("one", [EQUAL, LONGER, SHORTER], ids=lambda one: one.id)
@pytest.mark.parametrize("kind", SiteKind)
def test_each_kind_of_site_is_counted_as_it_is_computed(kind: SiteKind, one: EncodedPair) -> None:
    if kind in {SiteKind.Q, SiteKind.K, SiteKind.PATTERN}:  # they need counterparts at the same positions
        one = EQUAL
    for direction in Direction:
        told, done = told_and_done(tiny("llama"), [one], [kind], LABELS, (Corruption.PAIR, direction))
        assert Counted.of(told) == done.all()


@pytest.mark.parametrize(("corruption", "direction"), WAYS)
def test_each_corruption_is_counted_with_its_recordings(corruption: Corruption, direction: Direction) -> None:
    kinds = [SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST, SiteKind.ATTN_OUT, SiteKind.Z]
    for labels in (LABELS, PHRASES):
        told, done = told_and_done(tiny("llama"), [EQUAL], kinds, labels, (corruption, direction), windows=(1, 2))
        assert Counted.of(told) == done.all()


@pytest.mark.parametrize("variant", ["gpt2", "gpt_neox-parallel", "afmoe", "qwen3-moe"])
def test_families_and_labels_of_several_tokens_are_counted(variant: str) -> None:
    kinds = [SiteKind.RESID_PRE, SiteKind.MLP_OUT, SiteKind.Z, SiteKind.V]
    for all_readouts in (False, True):
        told, done = told_and_done(tiny(variant), [LONGER], kinds, PHRASES, (Corruption.PAIR, Direction.DENOISE),
                                   all_readouts=all_readouts)  # fmt: skip
        assert Counted.of(told) == done.all()


@pytest.mark.parametrize("variant", ["falcon-new", "bert", "modernbert-cls", "llama-classes", "bloom-classes"])
def test_models_that_compute_every_position_are_counted(variant: str) -> None:
    labels = LABELS if variant == "falcon-new" else CLASSES
    kinds = [SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.Z]
    told, done = told_and_done(tiny(variant), [EQUAL], kinds, labels, (Corruption.PAIR, Direction.NOISE))
    assert Counted.of(told)[:2] == done.all()[:2]


def test_means_over_pairs_tell_nearly_what_their_sum_takes() -> None:
    pairs = [EQUAL, LONGER, SHORTER, pair("other", (60, 61), (62, 63))]
    kinds = [SiteKind.RESID_PRE, SiteKind.ATTN_OUT, SiteKind.MLP_OUT, SiteKind.Z]
    for corruption, direction in WAYS:
        told, done = told_and_done(tiny("llama"), pairs, kinds, LABELS, (corruption, direction))
        assert Counted.of(told) == pytest.approx(done.all(), rel=0.12)
        assert Counted.of(told)[0] == pytest.approx(done.rows, rel=0.02)


@pytest.mark.parametrize("labels", [LABELS, PHRASES])
@pytest.mark.parametrize("variant", ["llama", "falcon-new"])
def test_decisions_are_counted_with_what_they_share(variant: str, labels: LabelTokens) -> None:
    subject = tiny(variant)
    pairs = [pair("p", (40 + i, 41), (50, 60 + i), after=(7, 8)) for i in range(6)] + [EQUAL, LONGER]
    with counting(subject) as done:
        measure_decisions(subject, [ids for one in pairs for ids in (one.clean_ids, one.corrupt_ids)], labels)
    told = Counted.of(layout(subject, pairs, labels).decisions)
    exact = 5 if variant == "llama" else 1 if labels is PHRASES else 2
    assert told[:exact] == pytest.approx(done.all()[:exact], rel=0 if labels is LABELS or exact == 5 else 0.3)


@pytest.mark.parametrize("one", [EQUAL, LONGER, SHORTER], ids=lambda one: one.id)
@pytest.mark.parametrize("labels", [LABELS, PHRASES])
@pytest.mark.parametrize("variant", ["llama", "afmoe"])
def test_controls_are_counted(variant: str, labels: LabelTokens, one: EncodedPair) -> None:
    subject = tiny(variant)
    with counting(subject) as done:
        run_controls(subject, one, labels)
    told = controls(layout(subject, [one], labels))
    assert Counted.of(told)[:2] == pytest.approx(done.all()[:2], rel=0.02)
