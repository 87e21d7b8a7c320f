"""/v1/notification-targets and /v1/notifications."""

from typing import Annotated

from fastapi import APIRouter, Query

from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.routes import Guarded
from audit_service.border.schemas import Body, Uuid
from audit_service.border.transactions import Actor, Reading, Writing
from audit_service.db.base import Ensured
from audit_service.db.tables import MessageRow, TargetRow
from audit_service.domain.notifications import MessageState, Topic
from audit_service.notifications import service
from audit_service.notifications.schemas import Message, NewTarget, Target, TargetCreate
from audit_service.problems import WITH_BODY, responses

router = APIRouter(tags=["notifications"], route_class=Guarded)


@router.post("/notification-targets", status_code=201, responses=responses(*WITH_BODY, 409))
def add_notification_target(body: Body[TargetCreate], session: Writing, actor: Actor) -> NewTarget:
    """Let somebody be told. A webhook's secret is in this answer and in no other, so the call takes no
    idempotency key.

    Webhooks follow the Standard Webhooks specification. Addresses that lead into a private network are refused
    unless the operator allowed it.
    """
    return NewTarget.of(service.add_target(session, body, by=actor))


@router.get("/notification-targets")
def list_notification_targets(
    session: Reading, paging: Annotated[Paging, sortable(kind=TargetRow.kind)]
) -> Page[Target]:
    """Who is told, newest first."""
    return paged(session, service.targets(), paging, key=TargetRow.id).page(Target)


@router.post("/notification-targets/{target_id}/remove", responses=responses(404))
def remove_notification_target(target_id: Uuid, session: Writing, actor: Actor) -> Target:
    """Tell it nothing more."""
    return Target.of(service.remove_target(session, target_id, by=actor))


@router.post("/notification-targets/{target_id}/test", status_code=201, responses=responses(404))
def try_notification_target(target_id: Uuid, session: Writing, actor: Actor, once: Idempotent) -> Message:
    """Send it a message that says nothing."""

    def make() -> Ensured[MessageRow]:
        to, subject = service.target(session, target_id), "A test of the audit service"
        return Ensured(service.tell(session, to, Topic.TEST, subject=subject, data={"asked_by": actor}), is_new=True)

    return once.answer(session, Message, make)


@router.get("/notifications")
def list_notifications(
    session: Reading,
    paging: Annotated[Paging, sortable(topic=MessageRow.topic, state=MessageRow.state)],
    state: Annotated[MessageState | None, Query(description="Only these; `dead` lists what was given up.")] = None,
) -> Page[Message]:
    """What was told or is to be told, newest first."""
    return paged(session, service.messages(state=state), paging, key=MessageRow.id).page(Message)


@router.post("/notifications/{message_id}/resend", responses=responses(404, 409))
def resend_notification(message_id: Uuid, session: Writing, actor: Actor) -> Message:
    """Try a message again that was given up."""
    return Message.of(service.send_again(session, message_id, by=actor))
