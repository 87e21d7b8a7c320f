import itertools
from collections import Counter

import pytest
from pydantic import ValidationError

from audit_service.domain.behaviors import Attribute, Behavior
from audit_service.domain.generation import cue_pairs, generate, pairs_of
from audit_service.domain.pairs import PairKind, Side
from audit_service.errors import InvalidBehavior
from tests.examples import loan_denial


@pytest.fixture(scope="module")
def behavior() -> Behavior:
    return loan_denial().behavior


class TestGenerate:
    def test_every_form_template_profile_and_cue_pair_is_there_once(self, behavior: Behavior) -> None:
        pairs = generate(behavior).pairs
        counts = Counter((pair.form, pair.template, pair.profile, pair.kind) for pair in pairs)
        cells = itertools.product(("raw", "chat"), behavior.templates, behavior.profiles)
        for form, template, profile in cells:
            assert counts[form, template, profile, PairKind.CONTRAST] == 18
            assert counts[form, template, profile, PairKind.PLACEBO] == 8

    def test_same_behavior_gives_same_digest_and_another_seed_another(self, behavior: Behavior) -> None:
        reseeded = behavior.model_copy(update={"pairing": behavior.pairing.model_copy(update={"seed": 1})})
        assert generate(behavior).digest == generate(behavior).digest
        assert generate(behavior).digest != generate(reseeded).digest

    def test_the_number_of_pairs_is_known_before_they_are_made_and_bounded(self, behavior: Behavior) -> None:
        assert pairs_of(behavior) == len(generate(behavior).pairs)
        [(_, profile), *_], [(_, template), *_] = behavior.profiles.items(), behavior.templates.items()
        many = {
            "profiles": {str(number): profile for number in range(100)},
            "templates": {str(number): template for number in range(100)},
        }
        with pytest.raises(InvalidBehavior, match="520,000 pairs; 200,000 are the most"):
            generate(behavior.model_copy(update=many))

    @pytest.mark.parametrize("wrong", ["{name!r}", "{name:>9}", "{name.__class__}", "{}", "{0}"])
    def test_a_placeholder_is_a_name_alone(self, behavior: Behavior, wrong: str) -> None:
        content = behavior.model_dump(mode="json")
        changed = [
            content | {"templates": {"t": wrong + " ".join(content["templates"].values())}},
            content | {"forms": [content["forms"][0] | {"suffix": wrong}]},
        ]
        for one in changed:
            with pytest.raises(ValidationError, match=r"placeholder|lacks"):
                Behavior.model_validate(one, strict=False)

    def test_the_two_prompts_differ_in_the_cue_alone(self, behavior: Behavior) -> None:
        for pair in generate(behavior).pairs:
            marked = (
                pair.text(Side.REFERENCE).replace(f": {pair.reference_cue}\n", ": ?\n").removesuffix(pair.reference_cue)
            )
            other = (
                pair.text(Side.COMPARISON)
                .replace(f": {pair.comparison_cue}\n", ": ?\n")
                .removesuffix(pair.comparison_cue)
            )
            assert marked == other

    def test_prompts_of_a_profile_hold_its_values_and_end_with_the_forms_suffix(self, behavior: Behavior) -> None:
        pair = generate(behavior).pairs[0]
        assert behavior.profiles[pair.profile]["income"] in pair.text(Side.REFERENCE)
        assert pair.text(Side.REFERENCE).endswith("\nAnswer:")


class TestCuePairs:
    def test_no_cue_serves_in_two_contrast_pairs(self, behavior: Behavior) -> None:
        pairs = cue_pairs(behavior.attributes[0], placebo_per_group=4, seed=3)
        used = [cue for pair in pairs if pair.kind is PairKind.CONTRAST for cue in (pair.reference, pair.comparison)]
        assert len(used) == len(set(used)) == 36

    def test_cues_meet_within_their_stratum(self, behavior: Behavior) -> None:
        race = behavior.attributes[0]
        stratum = {cue: name for group in race.groups.values() for name, cues in group.items() for cue in cues}
        pairs = cue_pairs(race, placebo_per_group=8, seed=3)
        assert all(stratum[pair.reference] == stratum[pair.comparison] for pair in pairs)

    def test_a_few_placebo_pairs_still_cover_every_stratum(self, behavior: Behavior) -> None:
        race = behavior.attributes[0]
        pairs = [pair for pair in cue_pairs(race, placebo_per_group=2, seed=3) if pair.kind is PairKind.PLACEBO]
        female = {cue for group in race.groups.values() for cue in group["female"]}
        assert [pair.reference in female for pair in pairs] == [True, False, True, False]
        assert all(pair.reference_group == pair.comparison_group for pair in pairs)

    def test_matched_cues_meet_the_cue_at_their_own_place(self) -> None:
        groups = {title: {"any": tuple(f"{title} {name}" for name in "ABCDEF")} for title in ("Mr.", "Ms.", "Mx.")}
        matched = Attribute(
            name="title", signalled_by="form of address", placeholder="x", reference="Mr.", groups=groups, source="",
            matched=True,
        )  # fmt: skip
        pairs = [pair for pair in cue_pairs(matched, placebo_per_group=3, seed=3) if pair.kind is PairKind.CONTRAST]
        assert len(pairs) == 12
        assert all(pair.reference[-1] == pair.comparison[-1] for pair in pairs)
        at_random = matched.model_copy(update={"matched": False})
        assert any(
            pair.reference[-1] != pair.comparison[-1] for pair in cue_pairs(at_random, placebo_per_group=0, seed=3)
        )

    def test_matched_groups_are_of_one_size_and_the_mark_is_no_part_of_other_digests(self, behavior: Behavior) -> None:
        content = behavior.attributes[0].model_dump(mode="json")
        assert "matched" not in content
        content["groups"]["black"]["male"].pop()
        Attribute.model_validate(content, strict=False)
        with pytest.raises(ValidationError, match=r"equally many cues in each stratum; not so: \['male'\]"):
            Attribute.model_validate(content | {"matched": True}, strict=False)
