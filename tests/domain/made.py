"""Audits made by hand: a small behavior, its pairs, and cells with known effects."""

from collections.abc import Callable, Sequence

import numpy as np

from audit_service.domain.behaviors import Attribute, Behavior, Form, FormKind, Labels, Risk, Threshold
from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.generation import generate
from audit_service.domain.metrics import metric_of
from audit_service.domain.pairs import Pair, PairKind, PairSet
from audit_service.domain.plan import Direction, Judging, ModelIdentity, PairSetIdentity, Plan, Tracing
from audit_service.domain.readings import BUILT_IN
from audit_service.domain.sites import SiteKind
from audit_service.domain.trace import Control

PASSED = Control(name="self-patch", measured=0.0, tolerance=0.0, passed=True)
TRACING = Tracing(kinds=(SiteKind.ATTN_OUT, SiteKind.MLP_OUT), pairs_per_form=40, placebo_pairs_per_form=4)


def behavior(*, names: int = 12, groups: Sequence[str] = ("black",), forms: Sequence[str] = ("raw",)) -> Behavior:
    """Two templates, two profiles and ``names`` names per group in two strata."""
    half = names // 2
    strata = {"female": range(half), "male": range(half, names)}
    cues = {
        group: {stratum: tuple(f"{group}{index}" for index in indices) for stratum, indices in strata.items()}
        for group in ("white", *groups)
    }
    return Behavior(
        name="loan",
        title="Loan",
        decision="Approve or deny.",
        owner="Risk",
        risk=Risk(rating="high", basis="Annex III"),
        attributes=(
            Attribute(
                name="race",
                signalled_by="first name",
                placeholder="name",
                reference="white",
                groups=cues,
                source="made for the tests",
            ),
        ),
        templates={"form": "{name} earns {income}. Approve?", "note": "Note on {name}, income {income}. Approve?"},
        profiles={"strong": {"income": "90"}, "weak": {"income": "30"}},
        forms=tuple(Form(name=name, kind=FormKind.TEXT) for name in forms),
        labels=Labels(favorable=(" Yes",), unfavorable=(" No",)),
        threshold=Threshold(gap_nats=0.2, source="made for the tests"),
        deployment_note="These prompts are the deployed ones.",
    )


METRICS = {definition.name: metric_of(definition, behavior()) for definition in BUILT_IN}


def plan(subject: Behavior, pairs: PairSet, **judging: float) -> Plan:
    return Plan(
        model=ModelIdentity(
            name="m",
            version="1",
            digest="0" * 64,
            dtype="float32",
            architecture="LlamaForCausalLM",
            layers=4,
            heads=2,
            parameters=1,
            files={},
        ),
        behavior=subject,
        pair_set=PairSetIdentity(name=pairs.name, digest=pairs.digest, pairs=len(pairs.pairs)),
        tracing=TRACING,
        judging=Judging(**({"delta_nats": 0.1, "resamples": 4096, "seed": 7} | judging)),
    )


def audit(**options: object) -> tuple[Plan, PairSet]:
    subject = behavior(**options)
    pairs = generate(subject)
    return plan(subject, pairs), pairs


def decisions(
    pairs: Sequence[Pair],
    gap: Callable[[Pair], float],
    *,
    base: Callable[[Pair], float] = lambda _: 0.0,
    share: float = 0.9,
) -> DecisionTable:
    """Cells whose gap and mean decision value are given; ``share`` of the probability is on the labels."""
    middle, half = (np.array([of(pair) for pair in pairs], dtype=np.float64) for of in (base, gap))
    d = np.column_stack([middle + half / 2, middle - half / 2]).astype(np.float32)
    favorable = np.log(share) - np.logaddexp(0, -d)
    unfavorable = np.log(share) - np.logaddexp(0, d)
    return DecisionTable(tuple(pairs), d, favorable.astype(np.float32), unfavorable.astype(np.float32))


def noisy(gap: float, *, spread: float = 0.1, seed: int = 0) -> Callable[[Pair], float]:
    """A gap in contrast pairs and none in placebo pairs, with noise by cluster and by pair."""
    rng = np.random.default_rng(seed)
    clusters: dict[tuple[str, str], float] = {}

    def of(pair: Pair) -> float:
        shift = clusters.setdefault((pair.form, pair.cluster), rng.normal(0, spread))
        return (gap if pair.kind is PairKind.CONTRAST else 0.0) + shift + rng.normal(0, spread / 2)

    return of


def effects(
    audit_plan: Plan,
    table: DecisionTable,
    direction: Direction,
    *,
    shares: dict[str, float],
    noise: float = 0.0,
    seed: int = 5,
) -> EffectTable:
    """Traces in which each named site carries its share of the gap, and the others nothing but noise."""
    carried = np.array([shares.get(site.key, 0.0) for site in audit_plan.sites])
    d = table.d.astype(np.float64)
    donor, recipient = (d[:, 0], d[:, 1]) if direction is Direction.DENOISE else (d[:, 1], d[:, 0])
    moved = recipient[:, None] + carried * (donor - recipient)[:, None]
    moved += np.random.default_rng(seed).normal(0, 1, moved.shape) * noise
    return EffectTable(
        table.pairs[0].form,
        direction,
        table.pairs,
        audit_plan.sites,
        table.d[:, 0],
        table.d[:, 1],
        moved.astype(np.float32),
    )
