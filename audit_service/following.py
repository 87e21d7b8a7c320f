"""What a person sees while a run goes on: what is being done, how far it is, and the effect so far."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from audit_service.audits.schemas import Event
from audit_service.client import Client
from audit_service.domain.lifecycle import EventKind, RunState
from audit_service.domain.plan import Direction, ShardKind

SECONDS_BETWEEN_LINES = 15.0
"""Where no bar can be drawn, as in a log."""
WORDS = {
    RunState.QUEUED: "waiting for a worker",
    RunState.RUNNING: "tracing",
    RunState.PAUSED: "paused",
    RunState.JUDGING: "judging",
    RunState.REPORTING: "writing the report",
}


def follow(client: Client, run_id: str, console: Console) -> RunState:
    """Show the run until it has ended; the state in which it ended."""
    state = RunState.QUEUED
    with _display(console) as show:
        for event in client.follow(run_id):
            if event.kind is EventKind.STATE:
                state = RunState(event.data["to"])
                show.state(state)
            elif event.kind is EventKind.PROGRESS:
                show.progress(event)
    return state


class _Bar:
    """A live bar on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("waiting for a worker", total=None, effect="")

    def state(self, state: RunState) -> None:
        self._progress.update(self._task, description=WORDS.get(state, state.value))
        if state in {RunState.JUDGING, RunState.REPORTING}:
            self._progress.update(self._task, completed=self._progress.tasks[0].total, effect="")

    def progress(self, event: Event) -> None:
        self._progress.update(
            self._task,
            description=_doing(event),
            completed=event.data["done"],
            total=event.data["total"],
            effect=_effect(event),
        )


class _Lines:
    """A line now and then where no bar can be drawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0

    def state(self, state: RunState) -> None:
        self._console.print(WORDS.get(state, state.value), highlight=False)

    def progress(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._last > SECONDS_BETWEEN_LINES:
            self._last = now
            share = event.data["done"] / event.data["total"]
            self._console.print(f"{share:4.0%}  {_doing(event)}  {_effect(event)}", highlight=False)


@contextmanager
def _display(console: Console) -> Iterator[_Bar | _Lines]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[effect]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress)


def _doing(event: Event) -> str:
    doing = event.data["doing"]
    if doing["kind"] == ShardKind.DECISIONS:
        return f"{doing['form']}: decisions"
    return f"{doing['form']}: {'denoising' if doing['direction'] == Direction.DENOISE else 'noising'}"


def _effect(event: Event) -> str:
    effect = event.data["running_effect"]
    return "" if effect is None else f"largest effect so far {effect:.3f} nats"
