"""/v1/shares, and /v1/shared/{link} for whoever has one."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from audit_service.border.handle import Address, AppLimiter, AppSettings, Handle
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded, Open
from audit_service.border.schemas import Body, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import ShareRow
from audit_service.identity.authentication import Caller
from audit_service.problems import WITH_BODY, responses
from audit_service.reports import service as reports
from audit_service.reports.downloads import BINARY, Language, bundle_file, report_file
from audit_service.reports.schemas import ReportFormat
from audit_service.sharing import service
from audit_service.sharing.schemas import NewShare, Share, ShareCreate, SharedRun

router = APIRouter(tags=["sharing"], route_class=Guarded)


def _not_too_often(limiter: AppLimiter, settings: AppSettings, address: Address) -> None:
    limiter.hit(settings.api_limit, "shared", address or "")


open_calls = APIRouter(prefix="/shared", tags=["sharing"], dependencies=[Depends(_not_too_often)], route_class=Open)
"""Calls whose link is all that they need."""

Link = Annotated[str, Path(max_length=200, pattern=r"^[\x21-\x7e]+$", description="What the link ends with.")]


@router.post("/runs/{run_id}/shares", status_code=201, responses=responses(*WITH_BODY, 404))
def share_run(run_id: Uuid, body: Body[ShareCreate], caller: Caller, session: Writing) -> NewShare:
    """Make a link that gives a completed run's evidence to whoever has it. It is in this answer and nowhere else."""
    made = service.share(session, run_id, days=body.days, note=body.note, by=caller)
    return NewShare.made(made.row, made.text)


@router.get("/shares")
def list_shares(
    session: Reading,
    paging: Annotated[Paging, sortable(expires=ShareRow.expires_at, opened=ShareRow.opened)],
    run_id: Annotated[Uuid | None, Query(description="Only links to this run.")] = None,
) -> Page[Share]:
    """The links, newest first, with how often each was used."""
    return paged(session, service.shares(run_id=run_id), paging, key=ShareRow.id).page(Share)


@router.delete("/shares/{share_id}", responses=responses(404))
def revoke_share(share_id: Uuid, caller: Caller, session: Writing) -> Share:
    """Revoke a link. It holds from the next use on."""
    return Share.of(service.revoke(session, share_id, by=caller.name))


@open_calls.get("/{link}", responses=responses(404, 410))
def open_share(link: Link, handle: Handle, address: Address) -> SharedRun:
    """What a link leads to."""
    return service.described(service.open_link(handle, link, what="description", address=address))


@open_calls.get(
    "/{link}/bundle",
    response_class=Response,
    responses={
        200: {"description": "The bundle.", "content": {"application/zip": BINARY}},
        **responses(404, 410),
    },
)
def download_shared_bundle(link: Link, handle: Handle, address: Address) -> Response:
    """The bundle that the link shares. The ETag is its SHA-256."""
    opened = service.open_link(handle, link, what="bundle", address=address)
    with opened.database.reading() as session:
        row = service.bundle_of(session, opened.share)
    return bundle_file(opened.database, row)


@open_calls.get(
    "/{link}/report",
    response_class=Response,
    responses={
        200: {"description": "The PDF.", "content": {"application/pdf": BINARY}},
        **responses(404, 410),
    },
)
def download_shared_report(
    link: Link,
    handle: Handle,
    address: Address,
    language: Language = "en",
) -> Response:
    """The report that the link shares, as PDF."""
    opened = service.open_link(handle, link, what="report", address=address)
    shared = opened.share
    with opened.database.reading() as session:
        found = reports.document(
            session, shared.run_id, language=language, file_format=ReportFormat.PDF, edition=shared.edition
        )
    return report_file(found, run_id=shared.run_id, language=language, file_format=ReportFormat.PDF)
