"""The outbox: what is to be told is a row of the transaction that it tells of; delivery follows, at least once."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import joinedload

from audit_service.db.base import new_id
from audit_service.db.handles import Database, ReadSession, WriteSession
from audit_service.db.queries import narrowed
from audit_service.db.tables import MessageRow, TargetRow
from audit_service.domain.lifecycle import EventKind
from audit_service.domain.notifications import MessageState, TargetKind, Topic
from audit_service.errors import Conflict, InvalidInput, NotFound
from audit_service.events import repository as events
from audit_service.notifications import mail, webhooks
from audit_service.notifications.schemas import TargetCreate
from audit_service.notifications.webhooks import Undelivered
from audit_service.settings import Settings, get_settings

ATTEMPTS = 8
"""Then a message is given up: by the delays below after 18 hours."""
FIRST_DELAY = timedelta(seconds=15)
FACTOR = 4
LONGEST_DELAY = timedelta(hours=12)
AT_ONCE = 100
"""Messages that one call delivers at most."""


def add_target(session: WriteSession, wanted: TargetCreate, *, by: str) -> TargetRow:
    """Somebody to tell.

    Raises:
        InvalidInput: the address is none, or leads into the service's own network.
        Conflict: e-mail, and the settings name no server for it.
    """
    settings = get_settings()
    webhook = wanted.kind is TargetKind.WEBHOOK
    if webhook:
        webhooks.check_url(wanted.address, allowed=settings.webhook_networks)
    else:
        _check_email(wanted.address, settings)
    row = TargetRow(
        kind=wanted.kind,
        address=wanted.address,
        topics=list(dict.fromkeys(wanted.topics)),
        secret=webhooks.new_secret() if webhook else None,
        created_by=by,
    )
    session.add(row)
    session.flush()
    _note(session, row, what="target added", by=by)
    return row


def _check_email(address: str, settings: Settings) -> None:
    if settings.smtp_url is None:
        raise Conflict("The service has no e-mail server.", remedy="Set AUDIT_SMTP_URL and AUDIT_SMTP_FROM.")
    name, parsed = parseaddr(address)
    if name or parsed != address or not all(address.rpartition("@")[::2]):
        raise InvalidInput(f"{address!r} is no e-mail address.", remedy="Write it like risk@example.org.")


def targets() -> Select[TargetRow]:
    return select(TargetRow).where(TargetRow.removed_at.is_(None))


def target(session: ReadSession, target_id: str) -> TargetRow:
    if (row := session.get(TargetRow, target_id)) is None:
        raise NotFound(
            f"There is no notification target {target_id}.", remedy="List them with GET /v1/notification-targets."
        )
    return row


def remove_target(session: WriteSession, target_id: str, *, by: str) -> TargetRow:
    """Tell it nothing more; what it was told stays on record."""
    row = target(session, target_id)
    if row.removed_at is None:
        row.removed_at = datetime.now(UTC)
        session.flush()
        _note(session, row, what="target removed", by=by)
    return row


def messages(*, state: MessageState | None = None) -> Select[MessageRow]:
    return narrowed(select(MessageRow), {MessageRow.state: state})


def message(session: ReadSession, message_id: str) -> MessageRow:
    if (row := session.get(MessageRow, message_id)) is None:
        raise NotFound(f"There is no notification {message_id}.", remedy="List them with GET /v1/notifications.")
    return row


def send_again(session: WriteSession, message_id: str, *, by: str) -> MessageRow:
    """Try a message anew that was given up.

    Raises:
        Conflict: it is on its way, or was delivered.
    """
    row = session.get(MessageRow, message_id, with_for_update=True) or message(session, message_id)
    if row.state is not MessageState.DEAD:
        raise Conflict(f"The notification is {row.state}.", remedy="Only one that was given up is sent again.")
    row.state, row.attempts, row.next_at = MessageState.PENDING, 0, datetime.now(UTC)
    session.flush()
    _note(session, row, what="sent again", by=by)
    return row


def _note(session: WriteSession, row: TargetRow | MessageRow, *, what: str, by: str) -> None:
    """The address stays in its row: a webhook's may be a secret."""
    events.append(session, None, EventKind.NOTIFICATION, actor=by, data={"id": row.id, "what": what})


def publish(session: WriteSession, topic: Topic, *, subject: str, data: dict[str, Any]) -> None:
    """Tell everybody in the transaction's organisation who asked for the topic, once the transaction is there."""
    for row in session.scalars(targets().where(TargetRow.topics.contains([topic.value]))):
        tell(session, row, topic, subject=subject, data=data)


def tell(session: WriteSession, to: TargetRow, topic: Topic, *, subject: str, data: dict[str, Any]) -> MessageRow:
    """A message to one target."""
    message_id = new_id()
    body = {"id": message_id, "type": topic.value, "timestamp": datetime.now(UTC).isoformat(), "data": data}
    row = MessageRow(
        id=message_id,
        target=to,
        organisation_id=to.organisation_id,
        topic=topic.value,
        subject=" ".join(subject.split()),
        body=json.dumps(body, ensure_ascii=False),
    )
    session.add(row)
    session.flush()
    return row


def deliver_due(database: Database, settings: Settings, *, now: Callable[[], datetime]) -> int:
    """Try every message whose time has come; the number that were tried.

    Each is one transaction that holds its row: two at once take different ones, and a process that dies in between
    leaves the message to be sent again.
    """
    for tried in range(AT_ONCE):
        with database.writing() as session:
            due = (
                select(MessageRow)
                .where(MessageRow.state == MessageState.PENDING, MessageRow.next_at <= now())
                .order_by(MessageRow.next_at)
                .limit(1)
                .options(joinedload(MessageRow.target).undefer(TargetRow.secret))
                .with_for_update(skip_locked=True, of=MessageRow)
            )
            if (row := session.scalars(due).one_or_none()) is None:
                return tried
            _attempt(row, settings, now())
    return AT_ONCE


def _attempt(row: MessageRow, settings: Settings, now: datetime) -> None:
    row.attempts += 1
    try:
        _send(row, settings, now)
    except Undelivered as error:
        row.error = str(error)
        if row.attempts >= ATTEMPTS or row.target.removed_at is not None:
            row.state = MessageState.DEAD
        else:
            row.next_at = now + delay(row.attempts)
    else:
        row.state, row.error, row.delivered_at = MessageState.DELIVERED, None, now


def delay(attempts: int) -> timedelta:
    """How long to wait after so many attempts."""
    return min(FIRST_DELAY * int(FACTOR ** (attempts - 1)), LONGEST_DELAY)


def _send(row: MessageRow, settings: Settings, now: datetime) -> None:
    if row.target.removed_at is not None:
        raise Undelivered("The target was removed.")
    if row.target.kind is TargetKind.WEBHOOK:
        assert row.target.secret is not None  # noqa: S101 - every webhook has one
        webhooks.send(
            row.target.address,
            secret=row.target.secret,
            message_id=row.id,
            body=row.body.encode(),
            at=now,
            allowed=settings.webhook_networks,
        )
        return
    if settings.smtp_url is None:
        raise Undelivered("AUDIT_SMTP_URL is not set.")
    letter = mail.message(
        sender=settings.smtp_from,
        to=row.target.address,
        subject=row.subject,
        text=_text(row),
        message_id=row.id,
        at=row.created_at,
    )
    mail.send(letter, server=settings.smtp_url.get_secret_value())


def _text(row: MessageRow) -> str:
    data = json.loads(row.body)["data"]
    lines = [f"{name.replace('_', ' ')}: {_said(value)}" for name, value in data.items() if value is not None]
    return "\n".join([row.subject, "", *lines, "", f"Message {row.id}, {row.topic}."]) + "\n"


def _said(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(f"\n  - {one}" for one in value) or "none"
    return str(value)
