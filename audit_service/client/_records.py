"""Calls about what is put on record beside a verdict: responses, mitigations, deployments."""

from collections.abc import AsyncGenerator

from audit_service.client._asking import Asking
from audit_service.client._modes import call, stream
from audit_service.deployments.schemas import Deployment, DeploymentCreate
from audit_service.mitigations.schemas import Mitigation, MitigationCreate
from audit_service.responses.schemas import ResponseCreate, ResponseRecord


class RecordCalls(Asking):
    """Management's responses to findings, measures against them, and where models are in use."""

    @call
    async def respond(self, run_id: str, wanted: ResponseCreate) -> ResponseRecord:
        """Answer a finding for management."""
        return await self._create(f"/v1/runs/{run_id}/responses", wanted, ResponseRecord)

    @stream
    async def responses(self, run_id: str) -> AsyncGenerator[ResponseRecord, None]:
        """What management answered to the run's findings, newest first; pages are fetched as they are reached."""
        async for one in self._all(f"/v1/runs/{run_id}/responses", ResponseRecord):
            yield one

    @call
    async def record_mitigation(self, run_id: str, wanted: MitigationCreate) -> Mitigation:
        """Put a measure on record that the run was repeated with."""
        return await self._create(f"/v1/runs/{run_id}/mitigations", wanted, Mitigation)

    @stream
    async def mitigations(self, run_id: str) -> AsyncGenerator[Mitigation, None]:
        """The measures that the run was repeated with, newest first; pages are fetched as they are reached."""
        async for one in self._all(f"/v1/runs/{run_id}/mitigations", Mitigation):
            yield one

    @call
    async def record_deployment(self, wanted: DeploymentCreate) -> Deployment:
        """Put on record that a model version is in use somewhere."""
        return await self._create("/v1/deployments", wanted, Deployment)

    @call
    async def end_deployment(self, deployment_id: str) -> Deployment:
        """The version is no longer in use there."""
        return await self._do(f"/v1/deployments/{deployment_id}/end", Deployment)

    @stream
    async def deployments(
        self, *, model: str | None = None, order: str | None = None
    ) -> AsyncGenerator[Deployment, None]:
        """Where model versions are and were in use, newest first unless another order is named."""
        async for one in self._all("/v1/deployments", Deployment, model=model, order=order):
            yield one
