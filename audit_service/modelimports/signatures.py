"""Whether a webhook comes from the MLflow that shares our secret, and now."""

import base64
import hashlib
import hmac

from audit_service.errors import Unauthenticated

WINDOW_S = 300
"""So far the sender's clock may be from ours. Within it a message sent again changes nothing: a version is imported
once."""


def check_mlflow(secret: str, *, signature: str, delivery_id: str, timestamp: str, body: bytes, now: float) -> None:
    """MLflow 3's scheme: ``v1,`` and the base64 of HMAC-SHA256 over ``delivery_id.timestamp.body``.

    Raises Unauthenticated.
    """
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(wanted.encode(), signature.encode()):
        raise Unauthenticated(
            "The webhook's signature is not ours.",
            remedy="Give MLflow's webhook the secret AUDIT_MLFLOW_WEBHOOK_SECRET.",
        )
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > WINDOW_S:
        raise Unauthenticated("The webhook is old, or a clock is wrong.", remedy="Set both machines' clocks by NTP.")
