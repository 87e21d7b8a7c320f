"""E-mail by SMTP."""

import smtplib
import ssl
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

from audit_service.notifications.webhooks import Undelivered

SECONDS = 20.0


def message(*, sender: str, to: str, subject: str, text: str, message_id: str, at: datetime) -> EmailMessage:
    """One message; its Message-ID is the same in each attempt."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, to, subject
    made["Message-ID"] = f"<{message_id}@audit-service>"
    made["Date"] = format_datetime(at)
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answer comes back
    made.set_content(text)
    return made


def send(made: EmailMessage, *, server: str) -> None:
    """Hand it to the server: ``smtps://user:password@host:port``, or ``smtp://`` which turns to TLS where it can.

    A password is never sent in the clear. Raises Undelivered.
    """
    parts = urlsplit(server)
    host, secure = parts.hostname or "", parts.scheme == "smtps"
    tls = ssl.create_default_context()
    try:
        with (
            smtplib.SMTP_SSL(host, parts.port or 465, timeout=SECONDS, context=tls)
            if secure
            else smtplib.SMTP(host, parts.port or 25, timeout=SECONDS)
        ) as connection:
            connection.ehlo()
            if not secure and connection.has_extn("starttls"):
                connection.starttls(context=tls)
                connection.ehlo()
                secure = True
            if parts.username is not None:
                if not secure:
                    raise Undelivered(f"{host} offers no TLS, so the password is not sent to it.")
                connection.login(unquote(parts.username), unquote(parts.password or ""))
            connection.send_message(made)
    except (OSError, smtplib.SMTPException) as error:
        raise Undelivered(f"{type(error).__name__}: {error}"[:200]) from error
