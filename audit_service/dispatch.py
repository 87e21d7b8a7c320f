"""The only door to the queue: messages carry ids, and leave after the commit that made their rows."""

import logging
from datetime import timedelta
from enum import StrEnum
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from audit_service.db.handles import WriteSession, after_commit
from audit_service.errors import BrokerDown
from audit_service.settings import get_settings

log = logging.getLogger(__name__)

GPU = "gpu"
CPU = "cpu"
REAP_EVERY_S = 10.0
TICK_EVERY_S = 10.0
DELIVER_EVERY_S = 5.0
TIDY_EVERY_S = 3600.0
ASK_AGAIN = timedelta(minutes=5)
"""A worker that did not answer in this time is asked again: its message may be lost."""
_ASKED = "broker_asked"
_UNREACHABLE = (OperationalError, RedisError, OSError)


class Task(StrEnum):
    """What a worker can be asked for, by the name on the message; each takes ids alone."""

    PREVIEW = "pairsets.preview"
    """(preview) alignment and label coverage of a pair set on a model."""
    ADVANCE = "audits.advance"
    """(run) whatever the run needs next: its shards queued, its judgement, its report."""
    TRACE = "audits.trace"
    """(run, shard) the cells of one shard."""
    JUDGE = "audits.judge"
    """(run)"""
    REPORT = "audits.report"
    """(run)"""
    REAP = "audits.reap"
    """() take back the work of workers that died, and send again what was lost."""
    TICK = "schedules.tick"
    """() write down what schedules have made due."""
    REVALIDATE = "schedules.revalidate"
    """(occurrence) the run of a schedule's occurrence."""
    DELIVER = "notifications.deliver"
    """() what is to be told."""
    IMPORT = "imports.fetch"
    """(import) a model version of another registry."""
    TIDY = "border.tidy"
    """() delete what is kept for a time only."""
    POLL = "imports.poll"
    """() look for new versions in another registry."""


QUEUES = MappingProxyType(
    {
        Task.PREVIEW: GPU,
        Task.ADVANCE: CPU,
        Task.TRACE: GPU,
        Task.JUDGE: CPU,
        Task.REPORT: CPU,
        Task.REAP: CPU,
        Task.TICK: CPU,
        Task.REVALIDATE: CPU,
        Task.DELIVER: CPU,
        Task.IMPORT: CPU,
        Task.TIDY: CPU,
        Task.POLL: CPU,
    }
)


@cache
def celery() -> Celery:
    """The queue's configuration, the same for those who ask and those who work."""
    app = Celery("audit_service", broker=get_settings().broker_url)
    app.conf.update(
        task_routes={task.value: {"queue": queue} for task, queue in QUEUES.items()},
        task_ignore_result=True,  # the state of the work stands in our tables
        task_serializer="json",
        accept_content=["json"],
        # A message is gone only when its work is saved, and a worker that dies gives it back.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_connect_timeout": 3, "socket_timeout": 30},
        task_publish_retry=False,  # a message that is lost is sent again by the reaper, from the tables
        beat_schedule=_beats(),
    )
    return app


def _beats() -> dict[str, dict[str, Any]]:
    """The clock's messages; one that no worker took before the next one comes is of no use."""
    every = {
        Task.REAP: REAP_EVERY_S,
        Task.TICK: TICK_EVERY_S,
        Task.DELIVER: DELIVER_EVERY_S,
        Task.TIDY: TIDY_EVERY_S,
    }
    if (poll_s := get_settings().mlflow_poll_s) is not None:
        every[Task.POLL] = poll_s
    return {
        task.value: {"task": task.value, "schedule": seconds, "options": {"expires": seconds}}
        for task, seconds in every.items()
    }


def enqueue(session: WriteSession, task: Task, *ids: str) -> None:
    """Send the task once the session commits; a rollback forgets it.

    Raises:
        BrokerDown: the broker does not answer now, so that the rows of work that cannot start are not kept.
    """
    if not session.info.get(_ASKED):
        waiting(QUEUES[task])
        session.info[_ASKED] = True
    after_commit(session, partial(_send, task, ids))


def waiting(queue: str) -> int:
    """Messages on the queue that no worker has taken.

    Raises:
        BrokerDown: the broker does not answer.
    """
    try:
        with celery().connection_for_write() as connection, connection.channel() as channel:
            return int(channel.queue_declare(queue).message_count)
    except _UNREACHABLE as error:
        raise _broker_down() from error


def _send(task: Task, ids: tuple[str, ...]) -> None:
    try:
        celery().send_task(task.value, args=ids)
    except _UNREACHABLE:
        # The rows are committed and say what is to be done: the reaper sends the message again.
        log.warning("broker down, %s %s is sent later", task, ids)


def _broker_down() -> BrokerDown:
    return BrokerDown(
        "The broker does not answer, so nothing can be queued.",
        remedy="Start it, or correct AUDIT_BROKER_URL, and send the request again.",
    )
