"""A worker's process and a run for it, with the tables and the queue as they are in production."""

from copy import copy
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from audit_service import dispatch
from audit_service.db.handles import Database
from audit_service.db.tables import EventRow, ShardRow
from tests.service import Audit
from workers.runtime import Models, Runtime
from workers.tasks.advance import step


@pytest.fixture
def worker(database: Database) -> Runtime:
    """At work for the first organisation."""
    return Runtime("worker:here:1", database, Models())


@pytest.fixture
def run_id(audit: Audit, worker: Runtime) -> str:
    """A run whose shards are cut and queued."""
    made: str = audit.run()["id"]
    step(worker, made)
    return made


@pytest.fixture
def empty_queue(broker_url: str) -> None:
    """Forget the messages so far, as a broker that lost its memory would."""
    with dispatch.celery().connection_for_write() as connection, connection.channel() as channel:
        for queue in set(dispatch.QUEUES.values()):
            channel.queue_purge(queue)


def shards(worker: Runtime, run_id: str) -> list[ShardRow]:
    with worker.database.reading() as session:
        return list(session.scalars(select(ShardRow).where(ShardRow.run_id == run_id).order_by(ShardRow.ordinal)))


def let_expire(worker: Runtime, run_id: str) -> None:
    """Let the heartbeats of the run's shards, and what was last heard of it, lie an hour back."""
    ago = func.now() - timedelta(hours=1)
    operator = copy(worker.database)
    operator.whom = None
    with operator.writing() as session:
        session.execute(text("ALTER TABLE events DISABLE TRIGGER events_append_only"))
        session.execute(update(ShardRow).where(ShardRow.run_id == run_id).values(heartbeat_at=ago))
        session.execute(update(EventRow).where(EventRow.run_id == run_id).values(at=ago))
        session.execute(text("ALTER TABLE events ENABLE ALWAYS TRIGGER events_append_only"))
