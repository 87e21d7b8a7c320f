"""Reading what a run found. What is not there yet is said with the run's state."""

from typing import NamedTuple

from audit_service.audits import service as audits
from audit_service.border.paging import Paging, paged
from audit_service.db.handles import ReadSession
from audit_service.db.tables import ResultRow, RunRow, ShardRow, VerdictRow
from audit_service.domain.plan import Direction
from audit_service.domain.sites import Site
from audit_service.domain.trace import Trace
from audit_service.errors import Conflict, NotFound
from audit_service.findings import repository
from audit_service.findings.cells import CellFormat, npz
from audit_service.findings.schemas import Lineage, ResultRecord, SiteEffect, TraceRecord


class Cells(NamedTuple):
    content: bytes
    digest: str
    """Of the stored safetensors bytes, whatever the format."""


class Traces(NamedTuple):
    items: list[TraceRecord]
    next: str | None


def verdict(session: ReadSession, run_id: str) -> VerdictRow:
    run = audits.run(session, run_id)
    if (row := repository.verdict_of(session, run_id)) is None:
        raise NotFound(f"The run {run_id} has no verdict; it is {run.state}.", remedy="Wait until it is completed.")
    return row


def lineage(session: ReadSession, result_id: int) -> Lineage:
    """The number, and by digest all that it rests on."""
    if (found := repository.result_with_run(session, result_id)) is None:
        raise NotFound(f"There is no result {result_id}.", remedy="List a run's with GET /v1/runs/{id}/results.")
    result, run = found
    return Lineage(
        **ResultRecord.of(result).model_dump(),
        plan_digest=run.plan.digest,
        model_digest=run.plan.content.model.digest,
        pair_set_digest=run.plan.content.pair_set.digest,
        behavior_version_id=run.plan.behavior_version_id,
    )


def effects(session: ReadSession, run_id: str, *, form: str, direction: Direction) -> list[SiteEffect]:
    """The judged effect of every site of the plan, in the plan's order; none before the run is judged."""
    run = audits.run(session, run_id)
    prefix = f"{form}.{direction}."
    found = {row.key: row for row in session.scalars(repository.results_of(run_id, prefix=prefix))}
    sites = run.plan.content.sites
    return [_effect(site, found, prefix + site.key) for site in sites if prefix + site.key in found]


def _effect(site: Site, found: dict[str, ResultRow], key: str) -> SiteEffect:
    row = found[key]
    adjusted, normalised = found.get(f"{key}.p_maxt"), found.get(f"{key}.normalised")
    return SiteEffect(
        site=site.key,
        kind=site.kind,
        layer=site.layer,
        head=site.head,
        segment=site.segment,
        result_id=row.id,
        outcome=row.outcome,
        value=row.value,
        low=row.low,
        high=row.high,
        n=row.n,
        p_value=row.p_value,
        p_maxt=None if adjusted is None else adjusted.value,
        normalised=None if normalised is None else normalised.value,
    )


def traces(session: ReadSession, run_id: str, paging: Paging) -> Traces:
    run = audits.run(session, run_id)
    found = paged(session, repository.traced_shards(run.id), paging, key=ShardRow.ordinal)
    stored = repository.traces_of(session, run.id, [shard.key for shard in found.rows])
    items = [
        TraceRecord(
            shard_key=shard.key,
            kind=shard.kind,
            form=shard.form,
            direction=shard.direction,
            digest=stored[shard.key].digest,
            measured=stored[shard.key].measured,
        )
        for shard in found.rows
    ]
    return Traces(items, found.next)


def cells(session: ReadSession, run_id: str, shard_key: str, *, file_format: CellFormat) -> Cells:
    """The shard's cells, checked against the digest they were stored with."""
    run: RunRow = audits.run(session, run_id)
    if (row := repository.trace_with_cells(session, run_id, shard_key)) is None:
        raise NotFound(
            f"The run {run_id} has no traced shard {shard_key}.", remedy="List them with GET /v1/runs/{id}/traces."
        )
    if Trace(row.payload).digest != row.digest:
        raise Conflict(
            f"The stored cells of shard {shard_key} are not those that were measured.",
            remedy="Restore the database from a backup, or run the plan again.",
        )
    if file_format is CellFormat.SAFETENSORS:
        return Cells(row.payload, row.digest)
    shard = session.get_one(ShardRow, (run_id, shard_key))
    return Cells(npz(row.payload, shard=shard, plan=run.plan.content), row.digest)
