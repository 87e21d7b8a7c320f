"""/v1/library."""

from typing import Annotated

from fastapi import APIRouter, Path

from audit_service.border.routes import Guarded
from audit_service.library import catalogue
from audit_service.library.schemas import LibraryEntry, LibraryEntryDetail
from audit_service.problems import responses

router = APIRouter(tags=["library"], route_class=Guarded)


@router.get("/library")
def list_library() -> list[LibraryEntry]:
    """The ready behaviors with their datasheets, by name."""
    return [LibraryEntry.listing(entry) for entry in catalogue.entries()]


@router.get("/library/{name}", responses=responses(404))
def get_library_entry(name: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]*$")]) -> LibraryEntryDetail:
    """One ready behavior, with its prompts and cues and as an audit file."""
    return LibraryEntryDetail.whole(catalogue.entry(name))
