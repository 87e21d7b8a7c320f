"""Audits with invented cells, judged by the real judge: what the report's tests are made of."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audit_service.domain.approvals import Acceptance, AcceptanceKind, Approval, Decision, Record, Response
from audit_service.domain.auditfile import AuditFile, parse_audit_file
from audit_service.domain.cells import DecisionTable, EffectTable
from audit_service.domain.comparison import Comparison, Currency, Deployment, EarlierRun, Mitigation
from audit_service.domain.drift import Drift, Run, compare
from audit_service.domain.generation import generate
from audit_service.domain.judgement import judge
from audit_service.domain.manifest import digest
from audit_service.domain.pairs import Pair, PairKind, PairSet
from audit_service.domain.plan import Direction, ModelIdentity, PairSetIdentity, Plan, Shard, ShardKind
from audit_service.domain.power import in_words
from audit_service.domain.results import Judgement, Result
from audit_service.domain.shards import shards, traced_pairs
from audit_service.domain.sideeffects import reference_changes
from audit_service.domain.sites import Site
from audit_service.domain.tables import Tables
from audit_service.domain.trace import Control, DecisionCells, EffectCells, Measured, Trace
from workers.rendering.evidence import Edition, EventRecord, Evidence, RunFacts, ShardRecord
from workers.rendering.verifying import cells_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "loan-denial.yaml"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CONTROLS = tuple(
    Control(name=name, measured=measured, tolerance=1e-4, passed=True)
    for name, measured in (
        ("logits of a plain forward", 1.1e-6),
        ("self-patch", 0.0),
        ("full patch equals the donor", 6.0e-7),
        ("row alone equals row in a batch", 7.2e-7),
    )
)


MEASURED = Measured(
    device="cpu",
    dtype="float32",
    torch="2.13.0",
    transformers="5.23.0",
    threads=2,
    attention="eager",
    controls=CONTROLS,
)


def example() -> AuditFile:
    return parse_audit_file(EXAMPLE.read_text(encoding="utf-8"), name=EXAMPLE.name)


def make_plan(audit: AuditFile, pair_set: PairSet, *, layers: int = 30, heads: int = 9) -> Plan:
    files = {name: sha256(name.encode()).hexdigest() for name in ("config.json", "model.safetensors", "tokenizer.json")}
    model = ModelIdentity(
        name=audit.model.name,
        version=audit.model.version,
        digest=sha256(b"model").hexdigest(),
        dtype="float32",
        architecture="LlamaForCausalLM",
        layers=layers,
        heads=heads,
        parameters=134_515_008,
        files=files,
        chat_template_digest=sha256(b"template").hexdigest(),
    )
    identity = PairSetIdentity(
        name=pair_set.name, digest=pair_set.digest, pairs=len(pair_set.pairs), unequal_spans=0.25
    )
    judging = audit.judging.model_copy(update={"resamples": 1000})
    return Plan(model=model, behavior=audit.behavior, pair_set=identity, tracing=audit.tracing, judging=judging)


class Audit(NamedTuple):
    """Evidence and the stored bytes of its cells."""

    evidence: Evidence
    cells: dict[str, bytes]


def make_evidence(
    *,
    audit: AuditFile | None = None,
    pair_set: PairSet | None = None,
    gap: float = 0.35,
    layers: int = 30,
    heads: int = 9,
) -> Evidence:
    return make_audit(audit=audit, pair_set=pair_set, gap=gap, layers=layers, heads=heads).evidence


def make_audit(
    *,
    audit: AuditFile | None = None,
    pair_set: PairSet | None = None,
    gap: float = 0.35,
    layers: int = 30,
    heads: int = 9,
) -> Audit:
    """An audit whose mean gap is about ``gap`` nats in the first form and half of it, reversed, in the others.

    Judging takes seconds, so that the same one is made once for all tests of a process; it is never changed.
    """
    audit = audit or example()
    pair_set = pair_set or generate(audit.behavior)
    key = (digest(audit), pair_set.digest, gap, layers, heads)
    if key not in _MADE:
        _MADE[key] = _made(audit, pair_set, gap=gap, layers=layers, heads=heads)
    return _MADE[key]


_MADE: dict[tuple[str, str, float, int, int], Audit] = {}


def _made(audit: AuditFile, pair_set: PairSet, *, gap: float, layers: int, heads: int) -> Audit:
    plan = make_plan(audit, pair_set, layers=layers, heads=heads)
    judgement, traces = traced(plan, pair_set, gap=gap)
    evidence = Evidence(
        run=RunFacts(
            id="0b9c7f52-6f0e-4a52-9f4c-2f1d6a7e9b10",
            requested_by="Model Risk (example)",
            planned_at=NOON - timedelta(minutes=5),
            started_at=NOON - timedelta(minutes=4),
            ended_at=NOON,
            service_version="0.1.0",
        ),
        plan=plan,
        pair_set=pair_set,
        judgement=judgement,
        power=in_words(plan.behavior, plan.judging, pair_set.pairs),
        cue_tokens=_cue_tokens(plan),
        measured=(MEASURED,),
        shards=tuple(_record(shard, trace) for shard, trace in traces.items()),
        model_verified=True,
        events=_events(),
    )
    return Audit(evidence, {shard.key: trace.payload for shard, trace in traces.items()})


class Traced(NamedTuple):
    """Invented cells of a plan's shards, and what the real judge says of them."""

    judgement: Judgement
    traces: dict[Shard, Trace]


def traced(plan: Plan, pair_set: PairSet, *, gap: float = 0.35) -> Traced:
    rng = np.random.default_rng(7)
    decisions = _decisions(plan, pair_set, gap, rng)
    effects = [
        _effects(plan, form.name, direction, traced_pairs(plan, pair_set, form.name), decisions, rng)
        for form in plan.behavior.forms
        for direction in plan.tracing.directions
    ]
    traces = {shard: _trace(shard, decisions, effects) for shard in shards(plan, pair_set)}
    return Traced(judge(plan, decisions, effects, CONTROLS), traces)


def _trace(shard: Shard, decisions: DecisionTable, effects: Sequence[EffectTable]) -> Trace:
    """The shard's own rows of the tables, as the engine would store them."""
    if shard.kind is ShardKind.DECISIONS:
        rows = [[pair.id for pair in decisions.pairs].index(i) for i in shard.pair_ids]
        parts = (decisions.d, decisions.log_p_favorable, decisions.log_p_unfavorable)
        return Trace.of(DecisionCells(*(part[rows] for part in parts)))
    (table,) = (e for e in effects if (e.form, e.direction) == (shard.form, shard.direction))
    rows = [[pair.id for pair in table.pairs].index(i) for i in shard.pair_ids]
    return Trace.of(EffectCells(table.d_clean[rows], table.d_corrupt[rows], table.patched[rows]))


def _decisions(plan: Plan, pair_set: PairSet, gap: float, rng: np.random.Generator) -> DecisionTable:
    pairs = pair_set.pairs
    first = plan.behavior.forms[0].name
    base = {profile: rng.normal(0.3, 0.5) for profile in plan.behavior.profiles}
    cluster = {name: rng.normal(0, 0.12) for name in sorted({pair.cluster for pair in pairs})}
    d = np.zeros((len(pairs), 2), np.float32)
    for row, pair in enumerate(pairs):
        shift = (
            0.0 if pair.kind is PairKind.PLACEBO else (gap if pair.form == first else -gap / 2) + cluster[pair.cluster]
        )
        centre = base.get(pair.profile, 0.0)
        d[row] = centre + np.array([shift / 2, -shift / 2]) + rng.normal(0, 0.05, 2)
    coverage = np.float32(0.9)
    return DecisionTable(
        pairs,
        d,
        _log(coverage / (1 + np.exp(-d))).astype(np.float32),
        _log(coverage / (1 + np.exp(d))).astype(np.float32),
    )


def _log(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(values))


def _effects(  # noqa: PLR0917
    plan: Plan,
    form: str,
    direction: Direction,
    pairs: tuple[Pair, ...],
    decisions: DecisionTable,
    rng: np.random.Generator,
) -> EffectTable:
    rows = {pair.id: row for row, pair in enumerate(decisions.pairs)}
    d = np.array([decisions.d[rows[pair.id]] for pair in pairs], np.float32).reshape(len(pairs), 2)
    total = d[:, 0] - d[:, 1] if direction is Direction.DENOISE else d[:, 1] - d[:, 0]
    share = np.array([_share(site, plan.model.layers) for site in plan.sites])
    recipient = d[:, 1] if direction is Direction.DENOISE else d[:, 0]
    noise = rng.normal(0, 0.004, (len(pairs), len(plan.sites)))
    patched = recipient[:, None] + total[:, None] * share[None, :] + noise
    return EffectTable(form, direction, pairs, plan.sites, d[:, 0], d[:, 1], patched.astype(np.float32))


def _share(site: Site, layers: int) -> float:
    """A plausible picture: the cue early, the decision late, a few heads in the middle."""
    place = site.layer / max(1, layers - 1)
    if site.kind == "resid_pre":
        early = 1 / (1 + np.exp(14 * (place - 0.55)))
        return float({"cue": early, "decision": 1 - early}.get(site.segment, 0.08))
    if site.kind == "z":
        return 0.3 if (site.layer, site.head) in {(layers // 2, 1), (layers // 2 + 1, 0)} else 0.0
    return float(0.2 * np.exp(-((place - 0.6) ** 2) / 0.01)) * (1 if site.segment == "decision" else -0.3)


def _cue_tokens(plan: Plan) -> dict[str, int]:
    cues = [c for a in plan.behavior.attributes for strata in a.groups.values() for cs in strata.values() for c in cs]
    return {cue: 1 + len(cue) // 4 for cue in cues}


def _record(shard: Shard, trace: Trace) -> ShardRecord:
    return ShardRecord(
        key=shard.key,
        kind=shard.kind,
        form=shard.form,
        direction=shard.direction,
        pairs=len(shard.pair_ids),
        digest=trace.digest,
        verified=True,
    )


def _events() -> tuple[EventRecord, ...]:
    said = ("plan frozen", "run started", "run ended", "judged")
    return tuple(
        EventRecord(
            at=NOON - timedelta(minutes=5 - i),
            actor="Model Risk (example)",
            what=what,
            digest=sha256(what.encode()).hexdigest(),
        )
        for i, what in enumerate(said)
    )


def earlier_run(audit: Audit) -> EarlierRun:
    """An audit as another one names it."""
    evidence = audit.evidence
    return EarlierRun(
        run_id="0b9c7f52-6f0e-4a52-9f4c-2f1d6a7e9b00",
        document_id=evidence.document_id,
        plan_digest=evidence.plan.digest,
        pair_set_digest=evidence.pair_set.digest,
        model=evidence.plan.model,
        ended_at=NOON - timedelta(days=90),
        verdict=evidence.judgement.verdict.value,
        results=tuple(r for r in evidence.judgement.results if r.key.endswith(".black.gap_nats")),
    )


def deployed(model: ModelIdentity, *, place: str = "production, loan desk") -> Deployment:
    """A place where the model is in use."""
    return Deployment(
        place=place,
        version=model.version,
        digest=model.digest,
        since=NOON - timedelta(days=30),
        person="user:operations",
        at=NOON,
    )


def cells_in(audit: Audit) -> Tables:
    return cells_of(audit.evidence, {f"cells/{key}.safetensors": data for key, data in audit.cells.items()})


def decisions_of(audit: Audit) -> DecisionTable:
    return cells_in(audit).decisions


def compared(before: Audit, now: Audit) -> Drift:
    """What the real comparison says of the cells of both."""

    def run(audit: Audit) -> Run:
        cells = cells_in(audit)
        return Run(cells.decisions, cells.effects)

    return compare(now.evidence.plan, accepted=run(before), new=run(now))


def with_records(before: Audit, now: Audit) -> Evidence:
    """The audit with everything on record that people and other runs can add."""
    evidence, earlier, drift = now.evidence, earlier_run(before), compared(before, now)
    edition = Edition(number=1, issued_at=NOON, digests={"en": sha256(b"first edition").hexdigest()})
    accepted = Acceptance(
        id="RA-7",
        kind=AcceptanceKind.RISK,
        scope="chat",
        reason="Used by four people under supervision until the next version.",
        conditions="Monthly review.",
        person="user:head-of-credit",
        role="Head of credit",
        at=NOON + timedelta(days=2),
        expires=NOON + timedelta(days=60),
    )
    lapsed = accepted.model_copy(
        update={"id": "EX-2", "kind": AcceptanceKind.EXCEPTION, "scope": "behavior", "expires": NOON}
    )
    response = Response(
        scope="raw",
        at=NOON + timedelta(days=1),
        person="user:head-of-credit",
        text="We accept the finding.",
        action="Retrain on balanced data",
        owner="user:modelling",
        due=NOON + timedelta(days=120),
    )
    side = Result(
        key="neutral.accuracy_change", value=-0.004, low=-0.01, high=0.002, unit="share", n=200, method="mean"
    )
    measure = Mitigation(
        title="Scaling of head 1 in layer 1",
        description="Scaled by 0.5.",
        fitted_on="Forty pairs of other templates and names.",
        person="user:modelling",
        at=NOON + timedelta(days=1),
        before=earlier,
        drift=drift,
        reference_changes=reference_changes(evidence.plan, before=decisions_of(before), after=decisions_of(now)),
        side_effects=(side,),
    )
    return evidence.model_copy(
        update={
            "editions": (edition,),
            "approvals": _decisions_on(evidence, edition, accepted),
            "responses": (response,),
            "acceptances": (accepted, lapsed),
            "mitigations": (measure,),
            "comparison": Comparison(earlier=earlier, drift=drift),
            "currency": Currency(due=NOON + timedelta(days=90), deployments=(deployed(evidence.plan.model),)),
        }
    )


def _decisions_on(evidence: Evidence, edition: Edition, risk: Acceptance) -> tuple[Approval, ...]:
    """The plan, the first edition and a risk, each put before a reviewer and accepted."""
    records = (
        (Record.PLAN, evidence.plan.digest, -1),
        (Record.REPORT, edition.digests["en"], 24),
        (Record.ACCEPTANCE, digest(risk), 48),
    )
    return tuple(
        Approval(
            at=NOON + timedelta(hours=hours + later),
            person=person,
            role=role,
            record=record,
            record_digest=record_digest,
            decision=decision,
            comment="Reproduced ten pairs." if decision is Decision.ACCEPTED else "",
        )
        for record, record_digest, hours in records
        for later, (person, role, decision) in enumerate(
            (
                ("Model Risk (example)", "Analyst", Decision.SUBMITTED),
                ("user:second-line", "Validator", Decision.ACCEPTED),
            )
        )
    )
