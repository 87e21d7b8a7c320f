"""/v1/pair-sets and /v1/previews."""

from typing import Annotated

from fastapi import APIRouter, Query

from audit_service.border.files import SentFile
from audit_service.border.idempotency import Idempotent, IdempotentFile
from audit_service.border.paging import ByNumber, Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import PairRow, PairSetRow
from audit_service.domain.pairreaders import PairFormat
from audit_service.domain.pairs import Pair
from audit_service.pairsets import repository, service
from audit_service.pairsets.schemas import PairSet, PairSetGenerate, PreviewCreate, PreviewRecord
from audit_service.problems import WITH_BODY, responses

router = APIRouter(tags=["pair sets"], route_class=Guarded)


_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "The file as it is: CSV with a header, JSONL, or a JSON list.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("text/csv", "application/jsonl", "application/json", "application/octet-stream")
        },
    }
}


@router.post("/pair-sets", status_code=201, responses=responses(*WITH_BODY, 404, 409, existing=PairSet))
def generate_pair_set(body: Body[PairSetGenerate], session: Writing, once: Idempotent) -> PairSet:
    """Generate the pairs of a behavior version. The same behavior always gives the same pairs (200)."""
    return once.answer(session, PairSet, lambda: service.generated(session, body))


@router.post(
    "/pair-sets/upload", status_code=201, responses=responses(*WITH_BODY, 409, existing=PairSet), openapi_extra=_UPLOAD
)
def upload_pair_set(
    name: Annotated[Name, Query(description="Name of the new pair set.")],
    file_format: Annotated[PairFormat, Query(alias="format", description="How the file is written.")],
    sent: SentFile,
    session: Writing,
    once: IdempotentFile,
) -> PairSet:
    """Upload a pair file of up to 256 MiB, or 16 MiB as one JSON list; 100,000 pairs are half of that.

    Every bad row is named by its number, and then nothing is stored.
    """
    return once.answer(
        session, PairSet, lambda: service.upload(session, sent.content, name=name, file_format=file_format)
    )


@router.get("/pair-sets")
def list_pair_sets(
    session: Reading,
    paging: Annotated[Paging, sortable(name=PairSetRow.name, count=PairSetRow.count)],
    name: Annotated[Name | None, Query(description="Only those of this name.")] = None,
    behavior_version_id: Annotated[Uuid | None, Query(description="Only those generated from this behavior.")] = None,
) -> Page[PairSet]:
    """The pair sets, newest first."""
    query = repository.pair_sets(name=name, behavior_version_id=behavior_version_id)
    return paged(session, query, paging, key=PairSetRow.id).page(PairSet)


@router.get("/pair-sets/{pair_set_id}", responses=responses(404))
def get_pair_set(pair_set_id: Uuid, session: Reading) -> PairSet:
    """One pair set, without its pairs."""
    return PairSet.of(service.pair_set(session, pair_set_id))


@router.get("/pair-sets/{pair_set_id}/pairs", responses=responses(404))
def list_pairs(pair_set_id: Uuid, session: Reading, paging: ByNumber) -> Page[Pair]:
    """The pairs of a set in their order."""
    row = service.pair_set(session, pair_set_id)
    found = paged(session, repository.pairs_of(row.id), paging, key=PairRow.ordinal)
    return Page(items=[pair.content for pair in found.rows], next=found.next)


@router.post(
    "/pair-sets/{pair_set_id}/previews",
    status_code=201,
    responses=responses(*WITH_BODY, 404, 409, existing=PreviewRecord),
)
def ask_for_preview(pair_set_id: Uuid, body: Body[PreviewCreate], session: Writing, once: Idempotent) -> PreviewRecord:
    """Ask a worker how the pairs align and whether the model answers with the labels; read it under /v1/previews."""
    return once.answer(session, PreviewRecord, lambda: service.ask_preview(session, pair_set_id, body))


@router.get("/previews/{preview_id}", responses=responses(404))
def get_preview(preview_id: Uuid, session: Reading) -> PreviewRecord:
    """A preview; its content is there once its state is `done`."""
    return PreviewRecord.of(service.preview(session, preview_id))
