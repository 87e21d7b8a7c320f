"""The service from Python: typed calls, errors as exceptions, paging and following built in."""

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from audit_service.audits.schemas import Event, PlanCreate, PlanRecord, Run, RunCreate, RunDetail
from audit_service.behaviors.schemas import BehaviorVersion
from audit_service.domain.behaviors import Behavior
from audit_service.domain.lifecycle import ENDED, RunState
from audit_service.domain.pairfiles import PairFormat
from audit_service.domain.plan import Direction
from audit_service.errors import AuditError, Unavailable
from audit_service.findings.cells import CellFormat
from audit_service.findings.schemas import ResultRecord, SiteEffect, TraceRecord, VerdictRecord
from audit_service.pairsets.schemas import PairSet, PairSetGenerate, PreviewCreate, PreviewRecord
from audit_service.registry.schemas import ModelVersion, ModelVersionCreate
from audit_service.reports.schemas import Report, ReportFormat

A = TypeVar("A", bound=BaseModel)

SECONDS = 300.0
"""Registering a large model reads all of it before it answers."""
LARGEST_PAGE = 200


class Client:
    """A connection to a service. A problem that it answers is raised as the error it stands for."""

    def __init__(self, url: str = "http://127.0.0.1:8321") -> None:
        transport = httpx.HTTPTransport(retries=2)
        self._http = httpx.Client(base_url=url, timeout=SECONDS, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def register_model(self, wanted: ModelVersionCreate) -> ModelVersion:
        return self._create("/v1/model-versions", wanted, ModelVersion)

    def register_behavior(self, behavior: Behavior) -> BehaviorVersion:
        return self._create("/v1/behavior-versions", behavior, BehaviorVersion)

    def generate_pairs(self, behavior_version_id: str) -> PairSet:
        return self._create("/v1/pair-sets", PairSetGenerate(behavior_version_id=behavior_version_id), PairSet)

    def upload_pairs(self, content: bytes, *, name: str, file_format: PairFormat) -> PairSet:
        query = {"name": name, "format": file_format.value}
        kind = {"Content-Type": "application/octet-stream"}
        answer = self._ask("POST", "/v1/pair-sets/upload", params=query, content=content, headers=kind | _new_key())
        return PairSet.model_validate_json(answer.content)

    def ask_preview(self, pair_set_id: str, wanted: PreviewCreate) -> PreviewRecord:
        return self._create(f"/v1/pair-sets/{pair_set_id}/previews", wanted, PreviewRecord)

    def preview(self, preview_id: str) -> PreviewRecord:
        return self._get(f"/v1/previews/{preview_id}", PreviewRecord)

    def make_plan(self, wanted: PlanCreate) -> PlanRecord:
        return self._create("/v1/plans", wanted, PlanRecord)

    def start_run(self, plan_id: str) -> Run:
        return self._create("/v1/runs", RunCreate(plan_id=plan_id), Run)

    def run(self, run_id: str) -> RunDetail:
        return self._get(f"/v1/runs/{run_id}", RunDetail)

    def runs(self, *, plan_id: str | None = None, state: RunState | None = None) -> Iterator[Run]:
        """The runs, newest first; pages are fetched as they are reached."""
        return self._all("/v1/runs", Run, plan_id=plan_id, state=state)

    def cancel(self, run_id: str) -> Run:
        return self._command(run_id, "cancel")

    def pause(self, run_id: str) -> Run:
        return self._command(run_id, "pause")

    def resume(self, run_id: str) -> Run:
        return self._command(run_id, "resume")

    def follow(self, run_id: str, *, after: int = 0) -> Iterator[Event]:
        """The run's events as they happen, until it is completed, cancelled or failed. A cut stream is taken up."""
        seen = after
        while True:
            over = self.run(run_id).state in ENDED
            with suppress(httpx.TransportError):
                for event in self._stream(run_id, after=seen):
                    yield event
                    seen = event.seq
                if over:
                    return

    def verdict(self, run_id: str) -> VerdictRecord:
        return self._get(f"/v1/runs/{run_id}/verdict", VerdictRecord)

    def results(self, run_id: str, *, prefix: str = "") -> Iterator[ResultRecord]:
        """The run's numbers in the judge's order; pages are fetched as they are reached."""
        return self._all(f"/v1/runs/{run_id}/results", ResultRecord, prefix=prefix)

    def effects(self, run_id: str, *, form: str, direction: Direction) -> list[SiteEffect]:
        query = {"form": form, "direction": direction.value}
        answer = self._ask("GET", f"/v1/runs/{run_id}/effects", params=query)
        return TypeAdapter(list[SiteEffect]).validate_json(answer.content)

    def traces(self, run_id: str) -> Iterator[TraceRecord]:
        """The run's traced shards in the plan's order; pages are fetched as they are reached."""
        return self._all(f"/v1/runs/{run_id}/traces", TraceRecord)

    def cells(self, run_id: str, shard_key: str, *, file_format: CellFormat = CellFormat.NPZ) -> bytes:
        """The measured cells of a shard as a file."""
        query = {"format": file_format.value}
        return self._ask("GET", f"/v1/runs/{run_id}/traces/{shard_key}/cells", params=query).content

    def reports(self, run_id: str) -> list[Report]:
        answer = self._ask("GET", f"/v1/runs/{run_id}/reports")
        return TypeAdapter(list[Report]).validate_json(answer.content)

    def report(self, run_id: str, *, language: str = "en", file_format: ReportFormat = ReportFormat.PDF) -> bytes:
        query = {"language": language, "format": file_format.value}
        return self._ask("GET", f"/v1/runs/{run_id}/report", params=query).content

    def _create(self, path: str, body: BaseModel, kind: type[A]) -> A:
        json_body = {"Content-Type": "application/json"}
        answer = self._ask("POST", path, content=body.model_dump_json(), headers=json_body | _new_key())
        return kind.model_validate_json(answer.content)

    def _get(self, path: str, kind: type[A]) -> A:
        return kind.model_validate_json(self._ask("GET", path).content)

    def _command(self, run_id: str, name: str) -> Run:
        return Run.model_validate_json(self._ask("POST", f"/v1/runs/{run_id}/{name}").content)

    def _all(self, path: str, kind: type[A], **query: str | None) -> Iterator[A]:
        wanted = {name: value for name, value in query.items() if value is not None} | {"limit": str(LARGEST_PAGE)}
        while True:
            page = self._ask("GET", path, params=wanted).json()
            yield from (kind.model_validate(item, strict=False) for item in page["items"])
            if page["next"] is None:
                return
            wanted["cursor"] = page["next"]

    def _stream(self, run_id: str, *, after: int) -> Iterator[Event]:
        """One connection's worth of events."""
        request = self._http.build_request("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(after)})
        answer = self._send(request, stream=True)
        try:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield Event.model_validate_json(line.removeprefix("data: "))
        finally:
            answer.close()

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx has them typed
        return self._send(self._http.build_request(method, path, **options))

    def _send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        try:
            answer = self._http.send(request, stream=stream)
            if answer.is_error:
                answer.read()
        except httpx.TransportError as error:
            raise Unavailable(
                f"The service at {self._http.base_url} does not answer: {error}",
                remedy="Start it with `audit-service serve`, or correct the address.",
            ) from error
        if answer.is_error:
            _raise(answer)
        return answer


def _new_key() -> dict[str, str]:
    """So that a creating request which is sent again is done once."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def _raise(answer: httpx.Response) -> NoReturn:
    """The error that the problem document stands for."""
    try:
        problem = answer.json()
        message, remedy = problem["detail"], problem["remedy"]
        details = [_said(found) for found in problem["errors"]]
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise Unavailable(
            f"{answer.url} answers {answer.status_code}, which is not this service.", remedy="Correct the address."
        ) from error
    raise _ERRORS.get(problem.get("type"), AuditError)(message, remedy=remedy, details=details)


def _said(found: dict[str, Any]) -> str:
    return f"{found['pointer']}: {found['detail']}" if found.get("pointer") else str(found["detail"])


def _family(kind: type[AuditError]) -> Iterator[type[AuditError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


_ERRORS = {kind.urn(): kind for kind in _family(AuditError)}
