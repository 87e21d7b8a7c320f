import base64
import hashlib
import hmac
import socket
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from audit_service.errors import InvalidInput
from audit_service.notifications import webhooks
from audit_service.notifications.webhooks import Undelivered
from tests.folders import free_port
from tests.receivers import hook_server

LOOPBACK = [ip_network("127.0.0.0/8")]
AT = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def send(url: str, body: bytes = b'{"a": 1}', **options: Any) -> None:
    webhooks.send(url, secret=SECRET, message_id="m1", body=body, at=AT, **{"allowed": LOOPBACK} | options)


def leads_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name has these addresses."""
    found = [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_the_signature_is_the_example_of_the_specification() -> None:
    body = b'{"test": 2432232314}'
    signed = webhooks.signature(SECRET, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_arrives_can_be_checked_with_the_secret() -> None:
    with hook_server() as hook:
        send(hook.url + "?to=risk", body=b'{"name": "\xc3\xa9"}')
    [(headers, body)] = hook.posted
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("m1", str(int(AT.timestamp())))
    assert headers["host"] == hook.url.split("/")[2]


def test_secrets_are_long_and_new_each_time() -> None:
    one, other = webhooks.new_secret(), webhooks.new_secret()
    assert one != other
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == hashlib.sha256().digest_size


@pytest.mark.parametrize("status", [301, 307, 400, 500])
def test_only_a_2xx_is_a_delivery_and_redirects_are_not_followed(status: int) -> None:
    with hook_server() as hook:
        hook.answers = [status]
        with pytest.raises(Undelivered, match=f"answered {status}"):
            send(hook.url)
    assert len(hook.posted) == 1


def test_nobody_there_is_no_delivery() -> None:
    with pytest.raises(Undelivered, match="ConnectError"):
        send(f"http://127.0.0.1:{free_port()}/")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",  # noqa: S104
     "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::", "fec0::1", "::127.0.0.1",
     "64:ff9b::169.254.169.254", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:0:0:0:0:f5ff:fffe"],
)  # fmt: skip
def test_no_name_leads_into_a_private_network(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    leads_to(monkeypatch, "93.184.216.34", address)
    with pytest.raises(Undelivered, match="no public address"):
        webhooks.peer("https://example.org/hook", allowed=())
    with pytest.raises(InvalidInput, match="no public address"):
        webhooks.check_url("https://example.org/hook", allowed=())


def test_a_network_can_be_allowed_and_only_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    leads_to(monkeypatch, "10.20.3.4")
    assert webhooks.peer("http://risk.bank.internal/", allowed=[ip_network("10.20.0.0/16")]).address == "10.20.3.4"
    with pytest.raises(Undelivered):
        webhooks.peer("http://risk.bank.internal/", allowed=[ip_network("10.21.0.0/16")])


def test_what_was_checked_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere at the second look is looked up once."""
    looks: list[str] = []

    def rebinding(host: str, *_: Any, **__: Any) -> list[Any]:
        looks.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(looks) == 1 else "10.0.0.1", 80))]

    with hook_server() as hook:
        port = hook.url.split(":")[2].removesuffix("/hook")
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *a, **k: rebinding(host) if host == "example.org" else real(host, *a, **k),
        )
        send(f"http://example.org:{port}")
    assert looks == ["example.org"]
    assert hook.posted[0][0]["host"] == f"example.org:{port}"


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::93.184.216.34", "2002:5db8:d822::1"])
def test_public_addresses_are_let_through_in_ipv6_clothes_too(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    leads_to(monkeypatch, address)
    assert webhooks.peer("https://example.org/hook", allowed=()).host == "example.org"


def test_plain_http_to_the_outside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    leads_to(monkeypatch, "93.184.216.34")
    with pytest.raises(InvalidInput, match="Plain HTTP is refused"):
        webhooks.check_url("http://example.org/hook", allowed=())
    webhooks.check_url("https://example.org/hook", allowed=())


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "https://", "/hook", "https://user:secret@example.org/", "file:///etc/passwd"]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="no webhook address"):
        webhooks.check_url(url, allowed=LOOPBACK)


def test_a_name_that_cannot_be_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(InvalidInput, match="cannot be found"):
        webhooks.check_url("https://nowhere.invalid/", allowed=())
