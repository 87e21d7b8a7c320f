"""Whether a webhook comes from the MLflow that shares our secret, and now."""

import hmac

from audit_service.errors import Unauthenticated
from audit_service.notifications.webhooks import signed

WINDOW_S = 300
"""So far the sender's clock may be from ours. Within it a message sent again changes nothing: a version is imported
once."""


def check_mlflow(secret: str, *, signature: str, delivery_id: str, timestamp: str, body: bytes, now: float) -> None:
    """MLflow 3's scheme: that of our own webhooks, but that the key is the secret's text.

    Raises Unauthenticated.
    """
    wanted = signed(secret.encode(), message_id=delivery_id, timestamp=timestamp, body=body)
    if not hmac.compare_digest(wanted.encode(), signature.encode()):
        raise Unauthenticated(
            "The webhook's signature is not ours.",
            remedy="Give MLflow's webhook the secret AUDIT_MLFLOW_WEBHOOK_SECRET.",
        )
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > WINDOW_S:
        raise Unauthenticated("The webhook is old, or a clock is wrong.", remedy="Set both machines' clocks by NTP.")
