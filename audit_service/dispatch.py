"""The only door to the queue: messages carry ids, and leave after the commit that made their rows."""

import logging
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import event
from sqlalchemy.orm import Session

from audit_service.errors import BrokerDown
from audit_service.settings import get_settings

log = logging.getLogger(__name__)

GPU = "gpu"
CPU = "cpu"


class Task(StrEnum):
    """What a worker can be asked for, by the name on the message."""

    PREVIEW = "preview"
    TRACE = "trace"
    JUDGE = "judge"
    REPORT = "report"
    REAP = "reap"


QUEUES = MappingProxyType({Task.PREVIEW: GPU, Task.TRACE: GPU, Task.JUDGE: CPU, Task.REPORT: CPU, Task.REAP: CPU})

REAP_EVERY_S = 10.0


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
        task_publish_retry=False,  # a lost message is sent again by the reaper, from the tables
        worker_hijack_root_logger=False,
        beat_schedule={"reap": {"task": Task.REAP.value, "schedule": REAP_EVERY_S}},
    )
    return app


def enqueue(session: Session, task: Task, **ids: str) -> None:
    """Send the task once the session commits; a rollback forgets it."""
    session.info.setdefault("messages", []).append((task, ids))


def waiting(queue: str) -> int:
    """Messages on the queue that no worker has taken.

    Raises:
        BrokerDown: the broker does not answer.
    """
    try:
        with celery().connection_for_read() as connection, connection.channel() as channel:
            return int(channel.queue_declare(queue).message_count)
    except (OperationalError, OSError) as error:
        raise broker_down() from error


def require_broker() -> None:
    """Refuse work that could not be queued, before any of it is written.

    Raises:
        BrokerDown: the broker does not answer.
    """
    waiting(GPU)


def broker_down() -> BrokerDown:
    return BrokerDown(
        "The broker does not answer, so nothing can be queued.",
        remedy="Start it, or correct AUDIT_BROKER_URL, and send the request again.",
    )


@event.listens_for(Session, "after_commit")
def _send(session: Session) -> None:
    for task, ids in session.info.pop("messages", []):
        try:
            celery().send_task(task.value, kwargs=ids)
        except (OperationalError, OSError):
            # The rows are committed and say what is to be done: the reaper sends the message again.
            log.warning("broker down, %s %s is sent later", task, ids)


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    session.info.pop("messages", None)
