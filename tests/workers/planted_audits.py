"""Models whose workings are known, audited by hand: engine, shards of both stages, tables and judge."""

from pathlib import Path

from audit_service.domain.generation import generate
from audit_service.domain.joint import joint_shards
from audit_service.domain.judgement import judge
from audit_service.domain.pairs import PairSet
from audit_service.domain.plan import Plan, Shard, Tracing
from audit_service.domain.results import Judgement
from audit_service.domain.shards import partners, shards
from audit_service.domain.sites import SiteKind
from audit_service.domain.tables import Tables
from audit_service.domain.trace import Trace
from tests.domain.made import PASSED, behavior, plan
from tests.planted import Rule, save_carrier
from workers.engine.loading import Subject, load_subject
from workers.leases import Lease
from workers.tasks.trace import trace_shard

GAIN, BIAS = 2.0, -0.5


class Unhurried:
    """A heartbeat of a worker that nobody waits for."""

    def progress(self, share: float, running_effect: float | None) -> None:
        assert 0 <= share <= 1 + 1e-9

    def should_stop(self) -> bool:
        return False


def planted(folder: Path, rule: Rule, **tracing: object) -> tuple[Plan, PairSet, Subject]:
    """Names of the reference group carry the signal, each a little differently, the others none."""
    subject = behavior(names=16)
    carried = {name: 0.8 + 0.2 * (index % 5) / 4 for index, name in enumerate(_names(subject, "white"))}
    save_carrier(folder, subject, rule, carried | dict.fromkeys(_names(subject, "black"), 0.0), gain=GAIN, bias=BIAS)
    pairs = generate(subject)
    options = {"kinds": (SiteKind.Z, SiteKind.MLP_OUT), "pairs_per_form": 32, "placebo_pairs_per_form": 2} | tracing
    model = plan(subject, pairs).model.model_copy(update={"layers": 3, "heads": 4})
    made = Plan(
        model=model,
        behavior=subject,
        pair_set=plan(subject, pairs).pair_set,
        tracing=Tracing(**options),
        judging=plan(subject, pairs, resamples=1000).judging,
    )
    return made, pairs, load_subject(folder)


def changed(made: Plan, **changes: object) -> Plan:
    """Not model_copy: a copy would keep what was computed of the old one."""
    return Plan(**{name: getattr(made, name) for name in Plan.model_fields} | changes)


def judged(made: Plan, pairs: PairSet, network: Subject) -> Judgement:
    tables = measured(made, pairs, network)
    return judge(made, tables.decisions, tables.effects, [PASSED], joint=tables.joint)


def measured(made: Plan, pairs: PairSet, network: Subject) -> Tables:
    """Both stages of a run, shard by shard."""
    traced = [(shard, _traced(made, pairs, network, shard)) for shard in shards(made, pairs)]
    second = joint_shards(made, Tables.of(made, pairs, traced).effects)
    traced += [(shard, _traced(made, pairs, network, shard)) for shard in second]
    return Tables.of(made, pairs, traced)


def _names(subject: object, group: str) -> list[str]:
    [attribute] = subject.attributes
    return [name for names in attribute.groups[group].values() for name in names]


def _traced(made: Plan, pairs: PairSet, network: Subject, shard: Shard) -> Trace:
    by_id = {pair.id: pair for pair in pairs.pairs}
    lease = Lease(
        run_id="run",
        shard_key=shard.key,
        kind=shard.kind,
        form=shard.form,
        direction=shard.direction,
        corruption=shard.corruption,
        sites=shard.sites,
        plan=made,
        model_path=Path(),
        model_version_id="",
        pairs=tuple(by_id[name] for name in shard.pair_ids),
        partners=partners(made, pairs, shard.form),
    )
    cells, controls = trace_shard(network, lease, Unhurried())
    assert all(control.passed for control in controls)
    return Trace.of(cells)
