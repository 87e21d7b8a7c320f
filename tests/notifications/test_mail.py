from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage

import pytest
from aiosmtpd.smtp import AuthResult

from audit_service.notifications import mail
from audit_service.notifications.webhooks import Undelivered
from tests.folders import free_port
from tests.receivers import mail_server


def letter() -> EmailMessage:
    return mail.message(
        sender="audit@bank.example",
        to="risk@bank.example",
        subject="Revalidation completed: loan-denial on Kredit-Assistent für 2026",
        text="changes:\n  - raw, black: the gap changed\n",
        message_id="m1",
        at=datetime(2026, 11, 21, tzinfo=UTC),
    )


def test_a_letter_arrives_as_it_was_written() -> None:
    with mail_server() as (address, box):
        mail.send(letter(), server=f"smtp://{address}")
    [arrived] = box.letters
    assert (arrived["From"], arrived["To"]) == ("audit@bank.example", "risk@bank.example")
    assert str(make_header(decode_header(arrived["Subject"]))).endswith("Kredit-Assistent für 2026")
    assert (arrived["Message-ID"], arrived["Auto-Submitted"]) == ("<m1@audit-service>", "auto-generated")
    assert "the gap changed" in str(arrived.get_payload())


def test_a_password_is_not_sent_in_the_clear() -> None:
    def never(*_: object) -> AuthResult:
        raise AssertionError("a password was sent")

    with (
        mail_server(authenticator=never, auth_require_tls=False) as (address, box),
        pytest.raises(Undelivered, match="offers no TLS"),
    ):
        mail.send(letter(), server=f"smtp://audit:secret@{address}")
    assert box.letters == []


def test_a_server_that_is_not_there_is_no_delivery() -> None:
    with pytest.raises(Undelivered, match="ConnectionRefusedError"):
        mail.send(letter(), server=f"smtp://127.0.0.1:{free_port()}")


def test_no_line_can_be_smuggled_into_the_head() -> None:
    with pytest.raises(ValueError, match=r"newline|linefeed"):
        mail.message(sender="a@b.c", to="d@e.f", subject="x\nBcc: g@h.i", text="", message_id="m", at=datetime.now(UTC))
