"""Queries on verdicts, results and traces."""

from sqlalchemy import Select, select
from sqlalchemy.orm import undefer

from audit_service.db.handles import ReadSession
from audit_service.db.tables import ResultRow, RunRow, ShardRow, TraceRow, VerdictRow


def verdict_of(session: ReadSession, run_id: str) -> VerdictRow | None:
    return session.scalars(select(VerdictRow).where(VerdictRow.run_id == run_id)).one_or_none()


def results_of(run_id: str, *, prefix: str = "") -> Select[ResultRow]:
    return select(ResultRow).where(ResultRow.run_id == run_id, ResultRow.key.startswith(prefix, autoescape=True))


def result_with_run(session: ReadSession, result_id: int) -> tuple[ResultRow, RunRow] | None:
    query = select(ResultRow, RunRow).join(RunRow, RunRow.id == ResultRow.run_id).where(ResultRow.id == result_id)
    found = session.execute(query).one_or_none()
    return None if found is None else (found[0], found[1])


def traced_shards(run_id: str) -> Select[ShardRow]:
    """The shards of the run that have a trace."""
    return (
        select(ShardRow)
        .join(TraceRow, (TraceRow.run_id == ShardRow.run_id) & (TraceRow.shard_key == ShardRow.key))
        .where(ShardRow.run_id == run_id)
    )


def traces_of(session: ReadSession, run_id: str, keys: list[str]) -> dict[str, TraceRow]:
    query = select(TraceRow).where(TraceRow.run_id == run_id, TraceRow.shard_key.in_(keys))
    return {trace.shard_key: trace for trace in session.scalars(query)}


def trace_with_cells(session: ReadSession, run_id: str, shard_key: str) -> TraceRow | None:
    return session.get(TraceRow, (run_id, shard_key), options=[undefer(TraceRow.payload)])
