"""/healthz and /readyz."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from audit_service import dispatch
from audit_service.border.handle import Handle
from audit_service.db.migrating import check_current
from audit_service.problems import responses

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
def is_alive() -> Health:
    """The process answers. Restart it when this fails."""
    return Health()


@router.get("/readyz", responses=responses(503))
def is_ready(database: Handle) -> Health:
    """Database, migrations and broker are as they must be. Send no requests while this fails."""
    check_current(database.engine)
    dispatch.waiting(dispatch.CPU)
    return Health()
