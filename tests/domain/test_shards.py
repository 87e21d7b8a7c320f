from collections import Counter

import pytest

from audit_service.domain.generation import generate
from audit_service.domain.pairs import PairKind, PairSet
from audit_service.domain.plan import Direction, ModelIdentity, PairSetIdentity, Plan, ShardKind, Tracing
from audit_service.domain.shards import shards, traced_pairs
from audit_service.domain.sites import SiteKind
from tests.examples import loan_denial

AUDIT = loan_denial()


@pytest.fixture(scope="module")
def pair_set() -> PairSet:
    return generate(AUDIT.behavior)


def plan_of(pair_set: PairSet, tracing: Tracing = AUDIT.tracing) -> Plan:
    model = ModelIdentity(
        name="m", version="1", digest="0", dtype="float32", architecture="A", layers=3, heads=2, parameters=9, files={}
    )
    identity = PairSetIdentity(name=pair_set.name, digest=pair_set.digest, pairs=len(pair_set.pairs))
    return Plan(model=model, behavior=AUDIT.behavior, pair_set=identity, tracing=tracing, judging=AUDIT.judging)


class TestShards:
    def test_every_pair_is_decided_once_and_every_traced_pair_patched_in_both_directions(
        self, pair_set: PairSet
    ) -> None:
        plan = plan_of(pair_set)
        counts = Counter(
            (shard.kind, shard.direction, pair) for shard in shards(plan, pair_set) for pair in shard.pair_ids
        )
        decided = {(ShardKind.DECISIONS, None, pair.id): 1 for pair in pair_set.pairs}
        patched = {
            (ShardKind.EFFECTS, direction, pair.id): 1
            for form in ("raw", "chat")
            for direction in Direction
            for pair in traced_pairs(plan, pair_set, form)
        }
        assert counts == decided | patched

    def test_same_plan_gives_same_keys_in_same_order(self, pair_set: PairSet) -> None:
        keys = [shard.key for shard in shards(plan_of(pair_set), pair_set)]
        assert keys == [shard.key for shard in shards(plan_of(generate(AUDIT.behavior)), pair_set)]
        assert len(set(keys)) == len(keys)

    def test_another_plan_shares_no_key(self, pair_set: PairSet) -> None:
        one = {shard.key for shard in shards(plan_of(pair_set), pair_set)}
        other = {shard.key for shard in shards(plan_of(pair_set, Tracing(seed=1)), pair_set)}
        assert not one & other


class TestTracedPairs:
    def test_every_cluster_is_drawn_before_any_is_drawn_twice(self, pair_set: PairSet) -> None:
        traced = traced_pairs(plan_of(pair_set, Tracing(pairs_per_form=36)), pair_set, "raw")
        contrast = [pair.cluster for pair in traced if pair.kind is PairKind.CONTRAST]
        assert len(contrast) == len(set(contrast)) == 36

    def test_cue_pairs_are_all_drawn_before_any_is_drawn_in_a_second_template(self, pair_set: PairSet) -> None:
        drawn = [pair for pair in traced_pairs(plan_of(pair_set), pair_set, "raw") if pair.kind is PairKind.CONTRAST]
        assert len({pair.reference_cue for pair in drawn}) == len(drawn)

    def test_more_than_there_are_takes_all(self, pair_set: PairSet) -> None:
        traced = traced_pairs(plan_of(pair_set, Tracing(pairs_per_form=10_000)), pair_set, "raw")
        assert sum(pair.kind is PairKind.CONTRAST for pair in traced) == 108

    def test_profiles_take_turns(self, pair_set: PairSet) -> None:
        traced = traced_pairs(plan_of(pair_set), pair_set, "raw")
        assert len({pair.profile for pair in traced}) == 3


class TestSites:
    def test_head_sites_span_all_positions_and_others_the_segments(self, pair_set: PairSet) -> None:
        plan = plan_of(pair_set)
        counts = Counter(site.kind for site in plan.sites)
        assert counts == {SiteKind.RESID_PRE: 9, SiteKind.ATTN_OUT: 9, SiteKind.MLP_OUT: 9, SiteKind.Z: 6}
        assert {site.segment for site in plan.sites if site.kind is SiteKind.Z} == {"all"}
        assert len({site.key for site in plan.sites}) == len(plan.sites)
