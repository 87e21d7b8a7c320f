"""/v1/runs/{id}/verdict, results, effects and traces."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from audit_service.audits import service as audits
from audit_service.border.paging import ByNumber, Page, paged
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Uuid
from audit_service.border.transactions import Reading
from audit_service.db.tables import ResultRow
from audit_service.domain.plan import Direction
from audit_service.findings import repository, service
from audit_service.findings.cells import CellFormat
from audit_service.findings.schemas import Lineage, ResultRecord, SiteEffect, TraceRecord, VerdictRecord
from audit_service.problems import responses

router = APIRouter(tags=["findings"], route_class=Guarded)

_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_Text = Annotated[str, Query(max_length=500, pattern=r"^[^\x00]*$")]


@router.get("/runs/{run_id}/verdict", responses=responses(404))
def get_verdict(run_id: Uuid, session: Reading) -> VerdictRecord:
    """What the judge said, with its reasons and every number it used; 404 until the run is judged."""
    return VerdictRecord.of(service.verdict(session, run_id))


@router.get("/runs/{run_id}/results", responses=responses(404))
def list_results(run_id: Uuid, session: Reading, paging: ByNumber, prefix: _Text = "") -> Page[ResultRecord]:
    """The run's numbers in the judge's order; `prefix` narrows them by the beginning of their key."""
    run = audits.run(session, run_id)
    return paged(session, repository.results_of(run.id, prefix=prefix), paging, key=ResultRow.id).page(ResultRecord)


@router.get("/results/{result_id}", responses=responses(404))
def get_result(result_id: Annotated[int, Path(ge=1, le=2**63 - 1)], session: Reading) -> Lineage:
    """One printed number, and by digest everything that it rests on."""
    return service.lineage(session, result_id)


@router.get("/runs/{run_id}/effects", responses=responses(404))
def list_effects(run_id: Uuid, form: _Text, direction: Direction, session: Reading) -> list[SiteEffect]:
    """The effect of every site of the plan in one form and direction; empty until the run is judged."""
    return service.effects(session, run_id, form=form, direction=direction)


@router.get("/runs/{run_id}/traces", responses=responses(404))
def list_traces(run_id: Uuid, session: Reading, paging: ByNumber) -> Page[TraceRecord]:
    """The traced shards in the plan's order, with how they were measured."""
    found = service.traces(session, run_id, paging)
    return Page(items=found.items, next=found.next)


@router.get(
    "/runs/{run_id}/traces/{shard_key}/cells",
    response_class=Response,
    responses={200: {**_BYTES, "description": "The file."}, **responses(404, 409)},
)
def download_cells(
    run_id: Uuid,
    shard_key: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")],
    session: Reading,
    file_format: Annotated[CellFormat, Query(alias="format")] = CellFormat.NPZ,
) -> Response:
    """The measured cells of a shard. The ETag is the SHA-256 of the stored safetensors bytes."""
    found = service.cells(session, run_id, shard_key, file_format=file_format)
    name = f"{run_id}-{shard_key}.{file_format}"
    headers = {"ETag": f'"{found.digest}"', "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(found.content, media_type="application/octet-stream", headers=headers)
