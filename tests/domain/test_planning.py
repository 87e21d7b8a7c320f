from typing import Any

import pytest

from audit_service.domain.behaviors import Behavior
from audit_service.domain.cost import estimate, layouts_of
from audit_service.domain.generation import generate
from audit_service.domain.layouts import Layout
from audit_service.domain.pairs import Pair, PairKind, PairSet, Segment
from audit_service.domain.plan import (
    Corruption,
    Direction,
    Judging,
    Mapping,
    ModelIdentity,
    Plan,
    Shard,
    ShardKind,
    Tracing,
)
from audit_service.domain.planning import changed_after, compose
from audit_service.domain.preview import FormPreview, Preview
from audit_service.domain.readings import MetricDefinition
from audit_service.domain.shards import shards, traced_pairs
from audit_service.domain.sites import SiteKind
from audit_service.domain.tracework import controls
from audit_service.errors import InvalidInput
from tests.examples import loan_denial

BEHAVIOR = loan_denial().behavior
PAIRS = generate(BEHAVIOR)
MODEL = ModelIdentity(
    name="tiny", version="1", digest="d", dtype="bfloat16", architecture="X", layers=4, heads=2, parameters=1000,
    files={"a": "b"},
)  # fmt: skip
JUDGING = Judging(delta_nats=0.1)


def plan(behavior: Behavior = BEHAVIOR, pair_set: PairSet = PAIRS, **tracing: Any) -> Plan:
    return compose(MODEL, behavior, pair_set, tracing=Tracing(**tracing), judging=JUDGING)


def changed(**changes: object) -> PairSet:
    first = PAIRS.pairs[0].model_copy(update=changes)
    return PairSet(name="x", pairs=(first, *PAIRS.pairs[1:]))


def test_a_plan_names_its_pairs_by_digest() -> None:
    assert plan().pair_set.digest == PAIRS.digest
    assert plan().pair_set.pairs == len(PAIRS.pairs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"form": "oral"}, "no text form 'oral'"),
        ({"attribute": "age"}, "of 'age'"),
        ({"reference_group": "green"}, "no group 'green' of 'race'"),
    ],
)
def test_pairs_that_are_not_about_the_behavior_are_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(pair_set=changed(**changes))
    assert any(said in detail for detail in caught.value.details)


def test_a_form_without_a_contrast_is_named() -> None:
    placebo = PairSet(
        name="x", pairs=tuple(pair for pair in PAIRS.pairs if pair.form != "raw" or pair.kind is PairKind.PLACEBO)
    )
    with pytest.raises(InvalidInput) as caught:
        plan(pair_set=placebo)
    assert caught.value.details == ["no pair contrasts 'race' in the form 'raw'"]


def test_segments_that_no_pair_has_are_named() -> None:
    with pytest.raises(InvalidInput, match="no pair has a segment 'middle'"):
        plan(segments=("cue", "middle"))


def test_an_exploratory_plan_names_what_was_seen_and_has_a_digest_of_its_own() -> None:
    seen, terms = plan(), plan(seed=1)
    digest = terms.digest
    exploratory = changed_after(terms, seen)
    assert (exploratory.exploratory, exploratory.predecessor) == (True, seen.digest)
    assert exploratory.digest == Plan.model_validate_json(exploratory.model_dump_json()).digest != digest


def test_the_cost_counts_every_prompt_once_and_every_site_of_every_traced_pair() -> None:
    wanted = plan(pairs_per_form=3, placebo_pairs_per_form=1)
    cost = estimate(wanted, PAIRS, shards(wanted, PAIRS))
    prompts = {(pair.form, "".join(s.reference for s in pair.segments)) for pair in PAIRS.pairs}
    prompts |= {(pair.form, "".join(s.comparison for s in pair.segments)) for pair in PAIRS.pairs}
    traced = 2 * sum(len(traced_pairs(wanted, PAIRS, form.name)) for form in BEHAVIOR.forms)
    assert traced == 2 * 2 * (3 + 1)
    assert cost.forward_passes == len(prompts) + traced * (2 + len(wanted.sites))
    assert cost.shards == len(shards(wanted, PAIRS))


def test_draws_windows_and_corruptions_are_counted() -> None:
    options = {"pairs_per_form": 3, "placebo_pairs_per_form": 1, "windows": (2,)}
    forms, pairs = len(BEHAVIOR.forms), 3 + 1
    wanted = plan(**options, corruptions=(Corruption.PAIR, Corruption.GAUSSIAN, Corruption.ZERO), noise_draws=5)
    cost, alone = (estimate(one, PAIRS, shards(one, PAIRS)) for one in (wanted, plan(**options)))
    traces = 2 + 2 * 5 + 1  # both directions of pair and of five draws; zero has one direction
    added = (traces - 2) * forms * pairs * (2 + len(wanted.sites))
    assert cost.forward_passes - alone.forward_passes == added


def test_numeric_answers_are_counted() -> None:
    answers = {"low": {"spellings": ["4"], "amount": 4}, "high": {"spellings": ["9"], "amount": 9}}
    asking = Behavior.model_validate(BEHAVIOR.model_dump() | {"answers": answers}, strict=False)
    metric = MetricDefinition(name="rate", title="Rate", unit="%", formula="expected_amount")
    priced = compose(
        MODEL, asking, PAIRS, tracing=Tracing(all_readouts=True), judging=JUDGING, metrics=(*plan().metrics, metric)
    )
    cost, alone = (estimate(one, PAIRS, shards(one, PAIRS)) for one in (priced, plan()))
    assert cost.forward_passes == 3 * alone.forward_passes


def word(cue: str, before: str, after: str, *, other: str) -> Pair:
    """A pair with its cue between two texts."""
    texts = {"before": (before, before), "cue": (cue, other), "after": (after, after)}
    segments = tuple(Segment(name=name, reference=a, comparison=b) for name, (a, b) in texts.items())
    return PAIRS.pairs[0].model_copy(update={"id": cue, "segments": segments})


def test_only_what_lies_behind_the_patched_layer_and_position_is_counted_as_computed_again() -> None:
    pairs = PairSet(name="x", pairs=(word("ABCD", "x" * 20, "y" * 16, other="abcd"),))  # 40 characters, ten tokens
    wanted = plan().model_copy(update={"tracing": Tracing(kinds=(SiteKind.RESID_PRE, SiteKind.Z), seed=0)})
    shard = Shard(plan_digest="d", kind=ShardKind.EFFECTS, form="raw", direction=Direction.NOISE,
                  corruption=Corruption.PAIR, pair_ids=("ABCD",))  # fmt: skip
    behind = {"cue": 5, "after": 4, "decision": 1, "all": 5}
    own = {"cue": 1, "after": 3, "decision": 1, "all": 5}
    rows = 0
    for site in wanted.sites:
        if site.kind is SiteKind.RESID_PRE:  # the last layer computes the decision's row alone, the first equal tokens'
            if site.layer or site.segment == "cue":
                rows += behind[site.segment] * (4 - site.layer - 1) + 1
        elif site.layer < 3:  # a head changes its own tokens' rows in its layer, and the later ones above it
            rows += own[site.segment] + behind[site.segment] * (4 - site.layer - 2) + 1
        else:
            rows += 1
    decided = 10 * 4 + 5 * 3 + 1  # the second prompt begins like the first
    recorded = 2 * 10 * 4
    found = estimate(wanted, pairs, [shard])
    assert found.work is not None
    assert found.work.layer_rows == recorded + rows + controls(layouts_of(wanted, pairs)["raw"]).layer_rows
    deciding = shard.model_copy(update={"kind": ShardKind.DECISIONS, "direction": None})
    both = estimate(wanted, pairs, [shard, deciding])
    assert both.work is not None
    assert (
        both.work.layer_rows - found.work.layer_rows == decided + controls(layouts_of(wanted, pairs)["raw"]).layer_rows
    )
    assert not found.counted


def longer(layout: Layout) -> Layout:
    """With prompts of 500 tokens."""
    traced = {
        way: {d: one.model_copy(update={"tokens": 500.0, "other": 500.0}) for d, one in found.items()}
        for way, found in layout.traced.items()
    }
    return layout.model_copy(update={"tokens": 500.0, "traced": traced})


def test_a_preview_counts_tokens_where_characters_only_let_guess() -> None:
    wanted = plan()
    cut = shards(wanted, PAIRS)
    forms = [
        FormPreview(form=form, pairs=9, unequal_spans=0, coverage_mean=1, coverage_min=1, below_min_coverage=0,
                    saturated=0, layout=longer(layout))
        for form, layout in layouts_of(wanted, PAIRS).items()
    ]  # fmt: skip
    found = estimate(wanted, PAIRS, cut, Preview(label_tokens={}, forms=tuple(forms), examples=()))
    assert (found.counted, found.tokens) == (True, 500)
    assert found.work is not None
    guessed = estimate(wanted, PAIRS, cut)
    assert guessed.work is not None
    assert found.work.layer_rows > guessed.work.layer_rows
    assert found.work.cells == guessed.work.cells


def test_exchanging_two_sites_at_once_is_counted_too() -> None:
    alone, joint = (estimate(one, PAIRS, shards(one, PAIRS)) for one in (plan(), plan(joint_sites=4)))
    assert joint.work is not None is not alone.work
    # Six sets, both directions, half of the contrast pairs of each form.
    assert joint.work.cells - alone.work.cells == pytest.approx(6 * 2 * sum(
        sum(pair.kind is PairKind.CONTRAST for pair in traced_pairs(plan(), PAIRS, form.name)) / 2
        for form in BEHAVIOR.forms
    ), rel=0.25)  # fmt: skip


GROUPED = MODEL.model_copy(update={"heads": 4, "kv_heads": 2})
UNEQUAL = frozenset(pair.id for number, pair in enumerate(PAIRS.pairs) if number % 2)


def inside(unequal: frozenset[str] | None, **tracing: Any) -> Plan:
    return compose(GROUPED, BEHAVIOR, PAIRS, tracing=Tracing(**tracing), judging=JUDGING, unequal=unequal)


@pytest.mark.parametrize("kind", [SiteKind.Q, SiteKind.K, SiteKind.PATTERN])
@pytest.mark.parametrize("unequal", [None, UNEQUAL])
def test_sites_that_carry_positions_are_refused_with_the_way_out_where_cues_differ_in_length(
    kind: SiteKind, unequal: frozenset[str] | None
) -> None:
    with pytest.raises(InvalidInput) as caught:
        inside(unequal, kinds=(SiteKind.RESID_PRE, kind))
    [said] = caught.value.details
    assert said.startswith(f"{kind} carries its token's position")
    assert "equal_only" in said
    assert inside(frozenset(), kinds=(kind,)).traced == ()


def test_values_are_traced_whatever_the_lengths_with_the_heads_that_queries_share() -> None:
    wanted = inside(UNEQUAL, kinds=(SiteKind.V, SiteKind.Z))
    heads = {kind: {site.head for site in wanted.sites if site.kind is kind} for kind in (SiteKind.V, SiteKind.Z)}
    assert heads == {SiteKind.V: {0, 1}, SiteKind.Z: {0, 1, 2, 3}}
    assert wanted.traced == ()


def test_pairs_of_unequal_spans_are_left_out_of_the_draw_where_the_mapping_says_so() -> None:
    wanted = inside(UNEQUAL, kinds=(SiteKind.Q,), mapping=Mapping.EQUAL_ONLY, pairs_per_form=3)
    left = PairSet(name=PAIRS.name, pairs=tuple(pair for pair in PAIRS.pairs if pair.id not in UNEQUAL))
    drawn = {form.name: traced_pairs(wanted, PAIRS, form.name) for form in BEHAVIOR.forms}
    assert drawn == {form: traced_pairs(plan(pairs_per_form=3), left, form) for form in drawn}
    assert wanted.traced == tuple(pair.id for pairs in drawn.values() for pair in pairs)
    assert Plan.model_validate_json(wanted.model_dump_json()).digest == wanted.digest


def test_a_form_without_equal_contrasts_is_named() -> None:
    raw = frozenset(pair.id for pair in PAIRS.pairs if pair.form == "raw" and pair.kind is PairKind.CONTRAST)
    with pytest.raises(InvalidInput, match="No contrast of the form raw has cues of equal token length"):
        inside(raw, mapping=Mapping.EQUAL_ONLY)


@pytest.mark.parametrize(
    ("tracing", "said"),
    [
        ({"kinds": (SiteKind.Q,), "corruptions": tuple(Corruption)[:3]}, "resample takes prompts of other pairs"),
        ({"kinds": (SiteKind.PATTERN,), "corruptions": (Corruption.PAIR, Corruption.ZERO)}, "ablate z instead"),
    ],
)
def test_corruptions_without_counterparts_are_refused_inside_attention(tracing: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        inside(frozenset(), **tracing)
    assert any(said in detail for detail in caught.value.details)


def test_a_version_registered_before_keys_and_values_were_counted_is_registered_again() -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(kinds=(SiteKind.V,))
    assert caught.value.details == [
        "the model version was registered before its heads of keys and values were counted: register it again"
    ]
    assert inside(frozenset()).digest == compose(
        GROUPED.model_copy(update={"kv_heads": None}),
        BEHAVIOR, PAIRS, tracing=Tracing(), judging=JUDGING, unequal=frozenset(),
    ).digest  # fmt: skip


def test_a_mean_by_position_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInput, match="positional_mean needs prompts of one length"):
        plan(corruptions=(Corruption.PAIR, Corruption.POSITIONAL_MEAN))


def test_what_a_plan_does_not_use_leaves_the_digest_that_it_was_stored_under() -> None:
    """Terms that were added after plans had been stored."""
    content = plan().model_dump(mode="json")
    assert "comparisons_elsewhere" not in content["judging"]
    counted = plan().model_copy(update={"judging": Judging(delta_nats=0.1, comparisons_elsewhere=2)})
    assert counted.model_dump(mode="json")["judging"]["comparisons_elsewhere"] == 2
    assert Judging.model_validate_json(counted.judging.model_dump_json()).comparisons_elsewhere == 2


def test_layers_between_steps_are_no_sites_and_steps_of_other_kinds_are_refused() -> None:
    some = plan(kinds=(SiteKind.RESID_PRE, SiteKind.Z), layer_steps={SiteKind.Z: 3})
    assert {(site.kind, site.layer) for site in some.sites} == {
        *((SiteKind.RESID_PRE, layer) for layer in range(4)),
        *((SiteKind.Z, layer) for layer in (0, 3)),
    }
    with pytest.raises(InvalidInput) as caught:
        plan(kinds=(SiteKind.RESID_PRE,), layer_steps={SiteKind.Z: 3})
    assert caught.value.details == ["layer steps of z, which are not patched"]


def test_a_preview_that_counted_otherwise_is_as_if_it_had_not_counted() -> None:
    seen = {"form": "raw", "pairs": 1, "unequal_spans": 0.0, "coverage_mean": 1.0, "coverage_min": 1.0,
            "below_min_coverage": 0.0, "saturated": 0.0}  # fmt: skip
    stored: dict[str, object] = seen | {"layout": {"tokens": 9.0, "behind": {"cue": 5.0}}}
    assert FormPreview.model_validate(stored).layout is None
    [layout, *_] = layouts_of(plan(), PAIRS).values()
    now = FormPreview.model_validate(stored | {"layout": layout})
    assert FormPreview.model_validate_json(now.model_dump_json()).layout == layout
