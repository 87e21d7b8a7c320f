"""Calls about runs: their course, what they found, and the evidence."""

from collections.abc import AsyncGenerator
from contextlib import suppress

import httpx

from audit_service.audits.schemas import Event, PlanRecord, Run, RunCreate, RunDetail
from audit_service.client import _tables
from audit_service.client._asking import Asking
from audit_service.client._modes import call, stream
from audit_service.client._tables import Table
from audit_service.domain.lifecycle import ENDED, RunState
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Direction, ShardKind
from audit_service.findings.cells import CellFormat
from audit_service.findings.schemas import ResultRecord, SiteEffect, TraceRecord, VerdictRecord
from audit_service.reports.schemas import Bundle, Report, ReportFormat


class RunCalls(Asking):
    """A run from its start to its bundle."""

    @call
    async def start_run(self, plan_id: str) -> Run:
        return await self._create("/v1/runs", RunCreate(plan_id=plan_id), Run)

    @call
    async def run(self, run_id: str) -> RunDetail:
        return await self._get(f"/v1/runs/{run_id}", RunDetail)

    @stream
    async def runs(
        self, *, plan_id: str | None = None, state: RunState | None = None, order: str | None = None
    ) -> AsyncGenerator[Run, None]:
        """The runs, newest first unless another order is named; pages are fetched as they are reached."""
        async for run in self._all("/v1/runs", Run, plan_id=plan_id, state=state, order=order):
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
        return await self._list(f"/v1/runs/{run_id}/reports", Report)

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
        return await self._list(f"/v1/runs/{run_id}/bundles", Bundle)

    @stream
    async def bundle(self, run_id: str) -> AsyncGenerator[bytes, None]:
        """The evidence bundle, piece by piece.

        Raises Unavailable in the end if it is not the file whose SHA-256 the service names.
        """
        async for piece in self._download(f"/v1/runs/{run_id}/bundle", checked=True):
            yield piece

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

    async def _command(self, run_id: str, name: str) -> Run:
        return await self._do(f"/v1/runs/{run_id}/{name}", Run)

    async def _plan_of(self, run_id: str) -> PlanRecord:
        run = await self._get(f"/v1/runs/{run_id}", RunDetail)
        return await self._get(f"/v1/plans/{run.plan_id}", PlanRecord)

    async def _effects(self, run_id: str, *, form: str, direction: Direction) -> list[SiteEffect]:
        query = {"form": form, "direction": direction.value}
        return await self._list(f"/v1/runs/{run_id}/effects", SiteEffect, query)

    async def _cells(self, run_id: str, shard_key: str, *, file_format: CellFormat) -> bytes:
        query = {"format": file_format.value}
        return (await self._sender.ask("GET", f"/v1/runs/{run_id}/traces/{shard_key}/cells", params=query)).content

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
