"""Signed webhooks, as the Standard Webhooks specification has them, and nowhere into the service's own network.

``webhook-signature`` is ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``. The key is what stands
behind ``whsec_`` in the secret, as base64. Every attempt at a message carries the same id.
"""

import base64
import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from audit_service.errors import InvalidInput

PREFIX = "whsec_"
SECONDS = 10.0
"""For the whole answer to begin: a receiver should accept, and work afterwards."""
LARGEST_SAID = 200
"""Characters of a refusal that are kept."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is given out to networks of the internet (RFC 4291)."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Undelivered(Exception):
    """The receiver did not take the message; the text says why."""


class Peer(NamedTuple):
    """Where a name leads: what was checked is what is connected to, whatever the name says a moment later."""

    host: str
    address: str


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return signed(key, message_id=message_id, timestamp=str(timestamp), body=body)


def signed(key: bytes, *, message_id: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def check_url(url: str, *, allowed: Sequence[Network]) -> None:
    """Refuse what could not be delivered to.

    Raises:
        InvalidInput: no URL of the web, one with a password in it, plain HTTP to the outside, or a private address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise InvalidInput(f"{url!r} is no webhook address.", remedy="Write it like https://example.org/hooks/audit.")
    try:
        peer(url, allowed=allowed)
    except Undelivered as error:
        raise InvalidInput(
            str(error), remedy="Name a receiver on the internet, or set AUDIT_WEBHOOK_NETWORKS."
        ) from error


def peer(url: str, *, allowed: Sequence[Network]) -> Peer:
    """The address to connect to: every address of the name must be public, or in a network that the settings allow.

    Raises Undelivered.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # a UnicodeError, for a name that is none, is a ValueError
        raise Undelivered(f"{host} cannot be found: {error}.") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        own = any(address in network for network in allowed)
        if not own and not _is_public(address):
            raise Undelivered(f"{host} leads to {address}, which is no public address.")
        if not own and parts.scheme != "https":
            raise Undelivered(f"Plain HTTP is refused for {host}; use https.")
    return Peer(host, str(addresses[0]))


def send(url: str, *, secret: str, message_id: str, body: bytes, at: datetime, allowed: Sequence[Network]) -> None:
    """Post the message; only an answer of 2xx is a delivery. Redirects are not followed.

    Raises Undelivered.
    """
    to, timestamp = peer(url, allowed=allowed), int(at.timestamp())
    parts = urlsplit(url)
    literal = f"[{to.address}]" if ":" in to.address else to.address
    netloc = literal if parts.port is None else f"{literal}:{parts.port}"
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, message_id=message_id, timestamp=timestamp, body=body),
    }
    try:
        # No proxy of the environment: it would decide where the message goes. The certificate is the name's.
        with httpx.Client(timeout=SECONDS, trust_env=False) as client:
            request = client.build_request(
                "POST",
                parts._replace(netloc=netloc).geturl(),
                content=body,
                headers=headers,
                extensions={"sni_hostname": to.host},
            )
            answer = client.send(request, stream=True)
            answer.close()
    except httpx.HTTPError as error:
        raise Undelivered(f"{type(error).__name__}: {error}"[:LARGEST_SAID]) from error
    if not answer.is_success:
        raise Undelivered(f"The receiver answered {answer.status_code}.")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Nothing of ours, nothing reserved; an IPv4 address in IPv6 clothes is the IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        if (inner := _carried(address)) is not None:
            return _is_public(inner)
        if address not in GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway makes of it: mapped, 6to4 (RFC 3056), Teredo, or NAT64 (RFC 6052)."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
