"""The API. Torch is not imported here, and not by anything that is imported here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from audit_service import problems
from audit_service.approvals.endpoints import router as approvals
from audit_service.audits.endpoints import plans, runs
from audit_service.behaviors.endpoints import router as behaviors
from audit_service.behaviors.example import EXAMPLE
from audit_service.border import examples
from audit_service.border.observing import Observed
from audit_service.db.handles import Database
from audit_service.deployments.endpoints import router as deployments
from audit_service.documentation import router as documentation
from audit_service.errors import DatabaseDown, InvalidInput
from audit_service.events.endpoints import router as events
from audit_service.findings.endpoints import router as findings
from audit_service.health.endpoints import router as health
from audit_service.identity.authentication import allow
from audit_service.identity.endpoints import open_calls
from audit_service.identity.endpoints import router as identity
from audit_service.identity.limits import Limiter
from audit_service.library.endpoints import router as library
from audit_service.metrics.endpoints import router as metrics
from audit_service.mitigations.endpoints import router as mitigations
from audit_service.modelimports.endpoints import router as model_imports
from audit_service.modelimports.endpoints import signed_calls
from audit_service.notifications.endpoints import router as notifications
from audit_service.pairsets.endpoints import router as pairsets
from audit_service.registry.endpoints import router as registry
from audit_service.reports.endpoints import router as reports
from audit_service.responses.endpoints import router as responses
from audit_service.revalidation.endpoints import router as revalidation
from audit_service.schedules.endpoints import router as schedules
from audit_service.settings import Settings, get_settings
from audit_service.sharing.endpoints import open_calls as shared
from audit_service.sharing.endpoints import router as sharing

DESCRIPTION = """
Causal bias audits of decision models, with evidence an auditor can re-perform:
register a model, a behavior and pairs; plan; run; read the verdict; download the report.

Every call but signing in carries a token as `Authorization: Bearer …`; its role decides what it may do.
Errors are RFC 9457 problem documents whose `remedy` says what to do. Lists are paged: send `next` as `cursor`,
with the same order and filters.
Creating requests take an `Idempotency-Key`.
"""

# Endpoints look alike and are written out nevertheless: their signatures and docstrings are the API's description.
ROUTERS = (
    registry,
    library,
    behaviors,
    metrics,
    pairsets,
    plans,
    runs,
    events,
    findings,
    reports,
    approvals,
    responses,
    mitigations,
    sharing,
    identity,
    model_imports,
    deployments,
    revalidation,
    schedules,
    notifications,
)


class Api(FastAPI):
    """FastAPI that speaks of every error as a problem document."""

    def build_middleware_stack(self) -> ASGIApp:
        return Observed(super().build_middleware_stack(), self.state.registry)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["schemas"].update(problems.SCHEMAS)
            examples.complete(document, known={"Behavior": EXAMPLE})
        return self.openapi_schema or {}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application on the database that the settings name; uvicorn takes this function as its factory.

    Raises:
        DatabaseDown: the settings name no database; `audit-service serve` starts one then.
        InvalidInput: they name no folders that models are registered from.
    """
    settings = settings or get_settings()
    if settings.database_url is None:
        raise DatabaseDown(
            "No database is named.", remedy="Start the API with `audit-service serve`, or set AUDIT_DATABASE_URL."
        )
    if not settings.model_roots:
        raise InvalidInput(
            "AUDIT_MODEL_ROOTS is not set: whoever may register models could learn what lies in any folder.",
            remedy="""Name the models' folders, such as '["/models/{organisation}"]'; '["/"]' allows all.""",
        )
    app = Api(
        title="audit-service",
        version=version("audit-service"),
        description=DESCRIPTION,
        lifespan=_closing,
        docs_url=None,  # FastAPI's own pages fetch their scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        responses=problems.responses(422, 500, 503),
    )
    app.state.registry = CollectorRegistry()
    app.state.settings = settings
    app.state.database = Database(settings.database_url)
    app.state.limiter = Limiter(settings.broker_url)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(
            router, prefix="/v1", dependencies=[Depends(allow)], responses=problems.responses(401, 403, 429)
        )
    for router in (open_calls, shared, signed_calls):
        app.include_router(router, prefix="/v1", responses=problems.responses(429))
    app.include_router(health)
    app.include_router(documentation)
    return app


@asynccontextmanager
async def _closing(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {}
    app.state.database.close()
