"""The service's calls, each written once for both clients."""

from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path

from audit_service.audits.schemas import Offers, PlanCreate, PlanRecord
from audit_service.behaviors.schemas import BehaviorVersion
from audit_service.client._asking import new_key
from audit_service.client._modes import call, stream
from audit_service.client._people import PeopleCalls
from audit_service.client._records import RecordCalls
from audit_service.client._runs import RunCalls
from audit_service.domain.behaviors import Behavior
from audit_service.domain.notifications import MessageState
from audit_service.domain.pairreaders import PairFormat
from audit_service.domain.pairs import Pair
from audit_service.domain.readings import MetricDefinition
from audit_service.library.schemas import LibraryEntry, LibraryEntryDetail
from audit_service.metrics.schemas import MetricVersion
from audit_service.modelimports.schemas import Import, ImportCreate
from audit_service.notifications.schemas import Message, NewTarget, TargetCreate
from audit_service.pairsets.schemas import PairSet, PairSetGenerate, PreviewCreate, PreviewRecord
from audit_service.registry.schemas import ModelVersion, ModelVersionCreate
from audit_service.revalidation.schemas import AcceptedRun, Revalidation, RevalidationCreate
from audit_service.schedules.schemas import Entry, Occurrence, Schedule, ScheduleChange, ScheduleCreate


class Calls(RunCalls, PeopleCalls, RecordCalls):
    """What can be asked of the service: on a ``Client`` calls answer, on an ``AsyncClient`` they are awaited."""

    @call
    async def register_model(self, wanted: ModelVersionCreate) -> ModelVersion:
        return await self._create("/v1/model-versions", wanted, ModelVersion)

    @stream
    async def model_versions(
        self, *, model: str | None = None, order: str | None = None
    ) -> AsyncGenerator[ModelVersion, None]:
        """The model versions, newest first unless another order is named; pages are fetched as they are reached."""
        async for version in self._all("/v1/model-versions", ModelVersion, model=model, order=order):
            yield version

    @call
    async def library(self) -> list[LibraryEntry]:
        """The ready behaviors with their datasheets."""
        return await self._list("/v1/library", LibraryEntry)

    @call
    async def library_entry(self, name: str) -> LibraryEntryDetail:
        """One ready behavior: send its ``behavior``, adapted or not, to ``register_behavior``."""
        return await self._get(f"/v1/library/{name}", LibraryEntryDetail)

    @call
    async def register_behavior(self, behavior: Behavior) -> BehaviorVersion:
        return await self._create("/v1/behavior-versions", behavior, BehaviorVersion)

    @stream
    async def behavior_versions(self, *, behavior: str | None = None) -> AsyncGenerator[BehaviorVersion, None]:
        """The behavior versions, newest first; pages are fetched as they are reached."""
        async for version in self._all("/v1/behavior-versions", BehaviorVersion, behavior=behavior):
            yield version

    @call
    async def register_metric(self, metric: MetricDefinition) -> MetricVersion:
        return await self._create("/v1/metrics", metric, MetricVersion)

    @stream
    async def metrics(self) -> AsyncGenerator[MetricVersion, None]:
        """The metrics with the built-in ones, newest first; pages are fetched as they are reached."""
        async for metric in self._all("/v1/metrics", MetricVersion):
            yield metric

    @call
    async def generate_pairs(self, behavior_version_id: str) -> PairSet:
        return await self._create("/v1/pair-sets", PairSetGenerate(behavior_version_id=behavior_version_id), PairSet)

    @call
    async def upload_pairs(self, content: bytes | Path, *, name: str, file_format: PairFormat) -> PairSet:
        """A pair set of a file, which is not held in memory if its path is given.

        Raises InvalidInput if the file cannot be read.
        """
        query = {"name": name, "format": file_format.value}
        kind = {"Content-Type": "application/octet-stream"} | new_key()
        path = "/v1/pair-sets/upload"
        if isinstance(content, bytes):
            answer = await self._sender.ask("POST", path, params=query, content=content, headers=kind)
        else:
            answer = await self._send_file(path, content, params=query, headers=kind)
        return PairSet.model_validate_json(answer.content)

    @stream
    async def pairs(self, pair_set_id: str) -> AsyncGenerator[Pair, None]:
        """The pairs of a set in their order; pages are fetched as they are reached."""
        async for pair in self._all(f"/v1/pair-sets/{pair_set_id}/pairs", Pair):
            yield pair

    @call
    async def ask_preview(self, pair_set_id: str, wanted: PreviewCreate) -> PreviewRecord:
        return await self._create(f"/v1/pair-sets/{pair_set_id}/previews", wanted, PreviewRecord)

    @call
    async def preview(self, preview_id: str) -> PreviewRecord:
        return await self._get(f"/v1/previews/{preview_id}", PreviewRecord)

    @call
    async def make_plan(self, wanted: PlanCreate) -> PlanRecord:
        return await self._create("/v1/plans", wanted, PlanRecord)

    @call
    async def offers(self, wanted: PlanCreate) -> Offers:
        """What the tracing would take step by step, and how far its budget reaches; nothing is stored."""
        return await self._create("/v1/plans/offers", wanted, Offers)

    @call
    async def plan(self, plan_id: str) -> PlanRecord:
        return await self._get(f"/v1/plans/{plan_id}", PlanRecord)

    @stream
    async def accepted_runs(
        self, *, model: str | None = None, behavior: str | None = None
    ) -> AsyncGenerator[AcceptedRun, None]:
        """Runs whose verdict was accepted, the one submitted last first; pages are fetched as they are reached."""
        async for accepted in self._all("/v1/accepted-runs", AcceptedRun, model=model, behavior=behavior):
            yield accepted

    @call
    async def revalidate(self, wanted: RevalidationCreate) -> Revalidation:
        """Repeat a completed run's plan on another version, and compare."""
        return await self._create("/v1/revalidations", wanted, Revalidation)

    @call
    async def revalidation(self, run_id: str) -> Revalidation:
        """What the run repeats, and what changed since."""
        return await self._get(f"/v1/runs/{run_id}/revalidation", Revalidation)

    @stream
    async def revalidations(self, *, earlier_run_id: str | None = None) -> AsyncGenerator[Revalidation, None]:
        """Runs that repeat another, newest first; pages are fetched as they are reached."""
        async for one in self._all("/v1/revalidations", Revalidation, earlier_run_id=earlier_run_id):
            yield one

    @call
    async def make_schedule(self, wanted: ScheduleCreate) -> Schedule:
        return await self._create("/v1/schedules", wanted, Schedule)

    @stream
    async def schedules(
        self, *, name: str | None = None, retired: bool = False, order: str | None = None
    ) -> AsyncGenerator[Schedule, None]:
        """The schedules in force, or with the retired ones, newest first unless another order is named."""
        shown = "true" if retired else None
        async for schedule in self._all("/v1/schedules", Schedule, name=name, retired=shown, order=order):
            yield schedule

    @call
    async def schedule(self, schedule_id: str) -> Schedule:
        return await self._get(f"/v1/schedules/{schedule_id}", Schedule)

    @call
    async def change_schedule(self, schedule_id: str, wanted: ScheduleChange) -> Schedule:
        """Give the schedule, as it is now, other terms; what ``wanted`` was not given stays.

        Raises Outdated if somebody else changes it at the same moment.
        """
        return await self._change(f"/v1/schedules/{schedule_id}", wanted, Schedule)

    @call
    async def pause_schedule(self, schedule_id: str) -> Schedule:
        """Start nothing of it until it is resumed."""
        return await self._do(f"/v1/schedules/{schedule_id}/pause", Schedule)

    @call
    async def resume_schedule(self, schedule_id: str) -> Schedule:
        return await self._do(f"/v1/schedules/{schedule_id}/resume", Schedule)

    @call
    async def retire_schedule(self, schedule_id: str) -> Schedule:
        """Nothing comes of it any more; what came of it stays on record."""
        return await self._end(f"/v1/schedules/{schedule_id}", Schedule)

    @stream
    async def occurrences(self, schedule_id: str) -> AsyncGenerator[Occurrence, None]:
        """The times that came and the new versions, newest first; pages are fetched as they are reached."""
        async for one in self._all(f"/v1/schedules/{schedule_id}/occurrences", Occurrence):
            yield one

    @call
    async def retry_occurrence(self, occurrence_id: str) -> Occurrence:
        """Try again to start what was refused."""
        return await self._do(f"/v1/occurrences/{occurrence_id}/retry", Occurrence)

    @call
    async def calendar(self, *, since: datetime | None = None, until: datetime | None = None) -> list[Entry]:
        """What came, is due, overdue and upcoming, by due time."""
        span = {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at is not None}
        return await self._list("/v1/schedules/calendar", Entry, span)

    @call
    async def add_notification_target(self, wanted: TargetCreate) -> NewTarget:
        return await self._create("/v1/notification-targets", wanted, NewTarget)

    @stream
    async def notifications(self, *, state: MessageState | None = None) -> AsyncGenerator[Message, None]:
        """What was told or is to be told, newest first; pages are fetched as they are reached."""
        async for message in self._all("/v1/notifications", Message, state=state):
            yield message

    @call
    async def import_model(self, wanted: ImportCreate) -> Import:
        """Fetch a registered model version from MLflow and register it."""
        return await self._create("/v1/model-imports", wanted, Import)

    @stream
    async def model_imports(self) -> AsyncGenerator[Import, None]:
        """What was asked for from MLflow, newest first; pages are fetched as they are reached."""
        async for one in self._all("/v1/model-imports", Import):
            yield one
