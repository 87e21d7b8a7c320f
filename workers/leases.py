"""Who works on a shard: taking it, keeping it by heartbeats, giving it back, saving it once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert

from audit_service.db.handles import ReadSession, WriteSession
from audit_service.db.tables import ModelVersionRow, PairRow, PairSetRow, RunRow, ShardRow, TraceRow
from audit_service.domain.lifecycle import EventKind, RunState, ShardState
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Corruption, Direction, Plan, ShardKind
from audit_service.domain.shards import partners
from audit_service.domain.trace import Measured, Trace
from audit_service.errors import DatabaseDown
from audit_service.events import repository as events
from audit_service.pairsets import repository as pairsets
from workers.runtime import Runtime

HEARTBEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A shard in the hands of this worker, with all that tracing it needs."""

    run_id: str
    shard_key: str
    kind: ShardKind
    form: str
    direction: Direction | None
    corruption: Corruption | None
    sites: tuple[str, ...]
    plan: Plan
    model_path: Path
    model_version_id: str
    pairs: tuple[Pair, ...]
    partners: Mapping[str, tuple[Pair, ...]]
    """Pair → other pairs, where the corruption takes activations from them."""


def take(runtime: Runtime, run_id: str, shard_key: str) -> Lease | None:
    """The shard, if the run wants it and nobody has it; a second delivery of its message gets None."""
    with runtime.database.writing() as session:
        taken = session.execute(
            update(ShardRow)
            .where(ShardRow.run_id == run_id, ShardRow.key == shard_key, ShardRow.state == ShardState.PENDING)
            .where(select(RunRow.id).where(RunRow.id == run_id, RunRow.state == RunState.RUNNING).exists())
            .values(
                state=ShardState.RUNNING,
                worker=runtime.name,
                attempts=ShardRow.attempts + 1,
                done=0,
                reason=None,
                started_at=func.clock_timestamp(),
                heartbeat_at=func.clock_timestamp(),
            )
            .returning(ShardRow)
        ).scalar_one_or_none()
        return None if taken is None else _lease(session, taken)


def _lease(session: ReadSession, shard: ShardRow) -> Lease:
    run = session.get_one(RunRow, shard.run_id)
    path = session.get_one(ModelVersionRow, run.plan.model_version_id).path
    rows = session.scalars(
        select(PairRow).where(PairRow.pair_set_id == run.plan.pair_set_id, PairRow.pair_id.in_(shard.pair_ids))
    )
    pairs = {row.pair_id: row.content for row in rows}
    plan = run.plan.content
    others: Mapping[str, tuple[Pair, ...]] = {}
    if shard.corruption in {Corruption.RESAMPLE, Corruption.MEAN}:
        pair_set = pairsets.load(session, session.get_one(PairSetRow, run.plan.pair_set_id))
        others = partners(plan, pair_set, shard.form)
    return Lease(
        run_id=run.id,
        shard_key=shard.key,
        kind=shard.kind,
        form=shard.form,
        direction=shard.direction,
        corruption=shard.corruption,
        sites=tuple(shard.sites),
        plan=plan,
        model_path=Path(path),
        model_version_id=run.plan.model_version_id,
        pairs=tuple(pairs[pair_id] for pair_id in shard.pair_ids),
        partners=others,
    )


class Heartbeat:
    """Says every second that the shard is alive and how far it is; learns whether it is still wanted."""

    def __init__(self, runtime: Runtime, lease: Lease) -> None:
        self._runtime, self._lease = runtime, lease
        self._progress: tuple[float, float | None] = (0.0, None)
        self._unwanted = Event()
        self._over = Event()

    def progress(self, share: float, running_effect: float | None) -> None:
        """Share of the shard that is done, and the effect seen so far in nats."""
        self._progress = (share, running_effect)

    def should_stop(self) -> bool:
        """True once the run is paused or cancelled, or the shard was taken away from this worker."""
        return self._unwanted.is_set()

    @contextmanager
    def beating(self) -> Iterator["Heartbeat"]:
        thread = Thread(target=self._beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            try:
                with self._runtime.database.writing() as session:
                    wanted = self._touch(session)
            except DatabaseDown:
                continue  # the lease runs out by itself if the database stays away
            if not wanted:
                self._unwanted.set()
                return

    def _touch(self, session: WriteSession) -> bool:
        share, effect = self._progress
        alive = session.execute(
            update(ShardRow)
            .where(*_ours(self._runtime, self._lease))
            .where(select(RunRow.id).where(RunRow.id == self._lease.run_id, RunRow.state == RunState.RUNNING).exists())
            .values(heartbeat_at=func.clock_timestamp(), done=func.round(share * ShardRow.total), running_effect=effect)
            .returning(ShardRow.key)
        ).scalar_one_or_none()
        if alive is not None:
            say_progress(session, self._lease, by=self._runtime.name, running_effect=effect)
        return alive is not None


def give_back(runtime: Runtime, lease: Lease) -> None:
    """Leave the shard to whoever takes it next; its cells so far are dropped, as a shard is saved whole."""
    with runtime.database.writing() as session:
        session.execute(
            update(ShardRow)
            .where(*_ours(runtime, lease))
            .values(state=ShardState.PENDING, worker=None, done=0, running_effect=None)
        )


def save(runtime: Runtime, lease: Lease, trace: Trace, measured: Measured) -> None:
    """Cells and state in one transaction. Whoever saves first has saved: a second worker's cells are the same bytes."""
    with runtime.database.writing() as session:
        session.execute(
            insert(TraceRow)
            .values(
                run_id=lease.run_id,
                shard_key=lease.shard_key,
                payload=trace.payload,
                digest=trace.digest,
                measured=measured,
            )
            .on_conflict_do_nothing()
        )
        session.execute(
            update(ShardRow)
            .where(ShardRow.run_id == lease.run_id, ShardRow.key == lease.shard_key)
            .values(state=ShardState.DONE, done=ShardRow.total, ended_at=func.clock_timestamp())
        )
        shard = {"key": lease.shard_key, "state": ShardState.DONE}
        events.append(session, lease.run_id, EventKind.SHARD, actor=runtime.name, data=shard)


def say_progress(session: WriteSession, lease: Lease, *, by: str, running_effect: float | None) -> None:
    """Add how far the whole run is, and with what it is busy."""
    done, total = session.execute(
        select(func.sum(ShardRow.done), func.sum(ShardRow.total)).where(ShardRow.run_id == lease.run_id)
    ).one()
    doing = {"kind": lease.kind, "form": lease.form, "direction": lease.direction}
    data = {"done": int(done), "total": int(total), "running_effect": running_effect, "doing": doing}
    events.append(session, lease.run_id, EventKind.PROGRESS, actor=by, data=data)


def _ours(runtime: Runtime, lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        ShardRow.run_id == lease.run_id,
        ShardRow.key == lease.shard_key,
        ShardRow.worker == runtime.name,
        ShardRow.state == ShardState.RUNNING,
    )
