"""The service's calls, each written once for both clients."""

import hashlib
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from audit_service.approvals.schemas import ApprovalRecord, DecisionMade, Submission
from audit_service.audits.schemas import Event, PlanCreate, PlanRecord, Run, RunCreate, RunDetail
from audit_service.behaviors.schemas import BehaviorVersion
from audit_service.client import _tables
from audit_service.client._modes import call, stream
from audit_service.client._sending import Sender
from audit_service.client._tables import Table
from audit_service.domain.behaviors import Behavior
from audit_service.domain.lifecycle import ENDED, RunState
from audit_service.domain.pairfiles import PairFormat
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Direction, ShardKind
from audit_service.domain.readings import MetricDefinition
from audit_service.errors import Unavailable
from audit_service.findings.cells import CellFormat
from audit_service.findings.schemas import ResultRecord, SiteEffect, TraceRecord, VerdictRecord
from audit_service.identity.permissions import Role
from audit_service.identity.schemas import Me, NewToken, Token, TokenCreate, User
from audit_service.library.schemas import LibraryEntry, LibraryEntryDetail
from audit_service.metrics.schemas import MetricVersion
from audit_service.modelimports.schemas import Import, ImportCreate
from audit_service.notifications.schemas import Message, NewTarget, TargetCreate
from audit_service.notifications.topics import MessageState
from audit_service.pairsets.schemas import PairSet, PairSetGenerate, PreviewCreate, PreviewRecord
from audit_service.registry.schemas import ModelVersion, ModelVersionCreate
from audit_service.reports.schemas import Bundle, Report, ReportFormat
from audit_service.revalidation.schemas import AcceptedRun, Revalidation, RevalidationCreate
from audit_service.schedules.schemas import Entry, Schedule, ScheduleCreate
from audit_service.sharing.schemas import NewShare, Share, ShareCreate

A = TypeVar("A", bound=BaseModel)

LARGEST_PAGE = 200


class Calls:
    """What can be asked of the service: on a ``Client`` calls answer, on an ``AsyncClient`` they are awaited."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    @call
    async def register_model(self, wanted: ModelVersionCreate) -> ModelVersion:
        return await self._create("/v1/model-versions", wanted, ModelVersion)

    @stream
    async def model_versions(self, *, model: str | None = None) -> AsyncGenerator[ModelVersion, None]:
        """The model versions, newest first; pages are fetched as they are reached."""
        async for version in self._all("/v1/model-versions", ModelVersion, model=model):
            yield version

    @call
    async def library(self) -> list[LibraryEntry]:
        """The ready behaviors with their datasheets."""
        answer = await self._sender.ask("GET", "/v1/library")
        return TypeAdapter(list[LibraryEntry]).validate_json(answer.content)

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
    async def upload_pairs(self, content: bytes, *, name: str, file_format: PairFormat) -> PairSet:
        query = {"name": name, "format": file_format.value}
        kind = {"Content-Type": "application/octet-stream"}
        answer = await self._sender.ask(
            "POST", "/v1/pair-sets/upload", params=query, content=content, headers=kind | _new_key()
        )
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
    async def schedules(self) -> AsyncGenerator[Schedule, None]:
        """The schedules, newest first; pages are fetched as they are reached."""
        async for schedule in self._all("/v1/schedules", Schedule):
            yield schedule

    @call
    async def calendar(self, *, since: datetime | None = None, until: datetime | None = None) -> list[Entry]:
        """What came, is due, overdue and upcoming, by due time."""
        span = {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at is not None}
        answer = await self._sender.ask("GET", "/v1/schedules/calendar", params=span)
        return TypeAdapter(list[Entry]).validate_json(answer.content)

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

    @call
    async def start_run(self, plan_id: str) -> Run:
        return await self._create("/v1/runs", RunCreate(plan_id=plan_id), Run)

    @call
    async def run(self, run_id: str) -> RunDetail:
        return await self._get(f"/v1/runs/{run_id}", RunDetail)

    @stream
    async def runs(self, *, plan_id: str | None = None, state: RunState | None = None) -> AsyncGenerator[Run, None]:
        """The runs, newest first; pages are fetched as they are reached."""
        async for run in self._all("/v1/runs", Run, plan_id=plan_id, state=state):
            yield run

    @call
    async def cancel(self, run_id: str) -> Run:
        return await self._command(run_id, "cancel")

    @call
    async def pause(self, run_id: str) -> Run:
        return await self._command(run_id, "pause")

    @call
    async def resume(self, run_id: str) -> Run:
        return await self._command(run_id, "resume")

    @stream
    async def follow(self, run_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """The run's events as they happen, until it is completed, cancelled or failed. A cut stream is taken up."""
        seen = after
        while True:
            over = (await self._get(f"/v1/runs/{run_id}", RunDetail)).state in ENDED
            with suppress(httpx.TransportError):
                async for event in self._events(run_id, after=seen):
                    yield event
                    seen = event.seq
                if over:
                    return

    @call
    async def verdict(self, run_id: str) -> VerdictRecord:
        return await self._get(f"/v1/runs/{run_id}/verdict", VerdictRecord)

    @stream
    async def results(self, run_id: str, *, prefix: str = "") -> AsyncGenerator[ResultRecord, None]:
        """The run's numbers in the judge's order; pages are fetched as they are reached."""
        async for result in self._all(f"/v1/runs/{run_id}/results", ResultRecord, prefix=prefix):
            yield result

    @call
    async def effects(self, run_id: str, *, form: str, direction: Direction) -> list[SiteEffect]:
        return await self._effects(run_id, form=form, direction=direction)

    @stream
    async def traces(self, run_id: str) -> AsyncGenerator[TraceRecord, None]:
        """The run's traced shards in the plan's order; pages are fetched as they are reached."""
        async for trace in self._all(f"/v1/runs/{run_id}/traces", TraceRecord):
            yield trace

    @call
    async def cells(self, run_id: str, shard_key: str, *, file_format: CellFormat = CellFormat.NPZ) -> bytes:
        """The measured cells of a shard as a file."""
        return await self._cells(run_id, shard_key, file_format=file_format)

    @call
    async def reports(self, run_id: str) -> list[Report]:
        answer = await self._sender.ask("GET", f"/v1/runs/{run_id}/reports")
        return TypeAdapter(list[Report]).validate_json(answer.content)

    @call
    async def report(self, run_id: str, *, language: str = "en", file_format: ReportFormat = ReportFormat.PDF) -> bytes:
        query = {"language": language, "format": file_format.value}
        return (await self._sender.ask("GET", f"/v1/runs/{run_id}/report", params=query)).content

    @call
    async def reissue(self, run_id: str) -> Run:
        """Ask for a new edition of the reports and the bundle, with what was put on record since."""
        return await self._command(run_id, "reports")

    @call
    async def bundles(self, run_id: str) -> list[Bundle]:
        answer = await self._sender.ask("GET", f"/v1/runs/{run_id}/bundles")
        return TypeAdapter(list[Bundle]).validate_json(answer.content)

    @stream
    async def bundle(self, run_id: str) -> AsyncGenerator[bytes, None]:
        """The evidence bundle, piece by piece.

        Raises Unavailable in the end if it is not the file whose SHA-256 the service names.
        """
        line, found = self._sender.line, hashlib.sha256()
        answer = await self._sender.send(line.http.build_request("GET", f"/v1/runs/{run_id}/bundle"), stream=True)
        try:
            async for piece in line.pieces(answer):
                found.update(piece)
                yield piece
        except httpx.TransportError as error:
            raise _damaged(str(error)) from error
        finally:
            await line.end(answer)
        if answer.headers["ETag"].strip('"') != found.hexdigest():
            raise _damaged("its SHA-256 is another one than the service names")

    @call
    async def results_table(self, run_id: str, *, prefix: str = "") -> Table:
        """The run's numbers, one a row; ``to_pandas()``, ``to_polars()`` and ``to_arrow()`` make it a data frame."""
        path = f"/v1/runs/{run_id}/results"
        return _tables.results([result async for result in self._all(path, ResultRecord, prefix=prefix)])

    @call
    async def decisions_table(self, run_id: str) -> Table:
        """What the model decided on both prompts of every pair, one pair a row."""
        plan = await self._plan_of(run_id)
        pairs = [pair async for pair in self._all(f"/v1/pair-sets/{plan.pair_set_id}/pairs", Pair)]
        files = [
            await self._cells(run_id, trace.shard_key, file_format=CellFormat.NPZ)
            async for trace in self._all(f"/v1/runs/{run_id}/traces", TraceRecord)
            if trace.kind is ShardKind.DECISIONS
        ]
        return _tables.decisions(pairs, files)

    @call
    async def effects_table(self, run_id: str) -> Table:
        """The effect of every site in every form and direction of the plan, one a row."""
        plan = (await self._plan_of(run_id)).content
        parts = [(form.name, direction) for form in plan.behavior.forms for direction in plan.tracing.directions]
        return _tables.effects(
            [(*part, await self._effects(run_id, form=part[0], direction=part[1])) for part in parts]
        )

    @call
    async def me(self) -> Me:
        """Who the service takes this client for, and what it may do."""
        return await self._get("/v1/me", Me)

    @call
    async def add_user(self, *, email: str, name: str, role: Role, password: str | None = None) -> User:
        """Let a person work for the organisation."""
        body = {"email": email, "name": name, "role": role.value, "password": password}
        answer = await self._sender.ask("POST", "/v1/users", json=body, headers=_new_key())
        return User.model_validate_json(answer.content)

    @stream
    async def users(self) -> AsyncGenerator[User, None]:
        """The organisation's people; pages are fetched as they are reached."""
        async for user in self._all("/v1/users", User):
            yield user

    @call
    async def issue_token(self, wanted: TokenCreate) -> NewToken:
        """A token with its text, which cannot be had again."""
        return await self._create("/v1/tokens", wanted, NewToken)

    @stream
    async def tokens(self) -> AsyncGenerator[Token, None]:
        """The organisation's tokens without their texts; pages are fetched as they are reached."""
        async for token in self._all("/v1/tokens", Token):
            yield token

    @call
    async def revoke_token(self, token_id: str) -> Token:
        return Token.model_validate_json((await self._sender.ask("DELETE", f"/v1/tokens/{token_id}")).content)

    @call
    async def submit(self, wanted: Submission) -> ApprovalRecord:
        """Put a record before a reviewer, and sign for its digest."""
        return await self._create("/v1/approvals", wanted, ApprovalRecord)

    @call
    async def decide(self, approval_id: str, made: DecisionMade) -> ApprovalRecord:
        """Decide on a record that somebody else prepared."""
        return await self._create(f"/v1/approvals/{approval_id}/decision", made, ApprovalRecord)

    @stream
    async def approvals(
        self, *, run_id: str | None = None, state: str | None = None
    ) -> AsyncGenerator[ApprovalRecord, None]:
        """What was put before reviewers, newest first; pages are fetched as they are reached."""
        async for record in self._all("/v1/approvals", ApprovalRecord, run_id=run_id, state=state):
            yield record

    @call
    async def share(self, run_id: str, wanted: ShareCreate) -> NewShare:
        """A link to the run's evidence; its path cannot be had again."""
        return await self._create(f"/v1/runs/{run_id}/shares", wanted, NewShare)

    @call
    async def revoke_share(self, share_id: str) -> Share:
        return Share.model_validate_json((await self._sender.ask("DELETE", f"/v1/shares/{share_id}")).content)

    async def _plan_of(self, run_id: str) -> PlanRecord:
        run = await self._get(f"/v1/runs/{run_id}", RunDetail)
        return await self._get(f"/v1/plans/{run.plan_id}", PlanRecord)

    async def _effects(self, run_id: str, *, form: str, direction: Direction) -> list[SiteEffect]:
        query = {"form": form, "direction": direction.value}
        answer = await self._sender.ask("GET", f"/v1/runs/{run_id}/effects", params=query)
        return TypeAdapter(list[SiteEffect]).validate_json(answer.content)

    async def _cells(self, run_id: str, shard_key: str, *, file_format: CellFormat) -> bytes:
        query = {"format": file_format.value}
        return (await self._sender.ask("GET", f"/v1/runs/{run_id}/traces/{shard_key}/cells", params=query)).content

    async def _create(self, path: str, body: BaseModel, kind: type[A]) -> A:
        json_body = {"Content-Type": "application/json"}
        answer = await self._sender.ask("POST", path, content=body.model_dump_json(), headers=json_body | _new_key())
        return kind.model_validate_json(answer.content)

    async def _get(self, path: str, kind: type[A]) -> A:
        return kind.model_validate_json((await self._sender.ask("GET", path)).content)

    async def _command(self, run_id: str, name: str) -> Run:
        return Run.model_validate_json((await self._sender.ask("POST", f"/v1/runs/{run_id}/{name}")).content)

    async def _all(self, path: str, kind: type[A], **query: str | None) -> AsyncGenerator[A, None]:
        wanted = {name: value for name, value in query.items() if value is not None} | {"limit": str(LARGEST_PAGE)}
        while True:
            page = (await self._sender.ask("GET", path, params=wanted)).json()
            for item in page["items"]:
                yield kind.model_validate(item, strict=False)
            if page["next"] is None:
                return
            wanted["cursor"] = page["next"]

    async def _events(self, run_id: str, *, after: int) -> AsyncGenerator[Event, None]:
        """One connection's worth of events."""
        line = self._sender.line
        request = line.http.build_request("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(after)})
        answer = await self._sender.send(request, stream=True)
        try:
            async for text in line.lines(answer):
                if text.startswith("data: "):
                    yield Event.model_validate_json(text.removeprefix("data: "))
        finally:
            await line.end(answer)


def _damaged(reason: str) -> Unavailable:
    return Unavailable(f"The download was damaged: {reason}.", remedy="Fetch it again.")


def _new_key() -> dict[str, str]:
    """So that a creating request which is sent again is done once."""
    return {"Idempotency-Key": str(uuid.uuid4())}
