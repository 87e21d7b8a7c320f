"""``audit-service worker``: a Celery worker on the queues that it is given."""

from typing import Annotated

import typer

from audit_service.processes import surroundings


def worker(
    queues: Annotated[
        str, typer.Option(help="Queues to take work from: gpu (tracing), cpu (judging, reports).")
    ] = "gpu,cpu",
    concurrency: Annotated[int, typer.Option(min=1, help="Processes; each loads its own copy of the model.")] = 1,
) -> None:
    """Trace, judge and report what the queue asks for, until interrupted."""
    with surroundings():
        # Importing torch takes seconds that other commands need not wait for.
        from workers.app import app  # noqa: PLC0415

        size = ["--queues", queues, "--concurrency", str(concurrency)]
        app.worker_main(["worker", *size, "--loglevel", "info", "--without-gossip", "--without-mingle"])
