"""What the client does when the service does not answer at once, against a server that answers as it is told."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from audit_service.client import AsyncClient, Client
from audit_service.domain.pairreaders import PairFormat
from audit_service.errors import AuditError, InvalidInput, Unavailable
from audit_service.pairsets.schemas import PairSet
from tests.folders import free_port

RUN = '{"id": "1", "plan_id": "2", "state": "queued", "reason": null, "created_at": "2026-11-21T00:00:00Z", "started_at": null, "ended_at": null}'  # noqa: E501
DOWN = (
    '{"type": "urn:audit-service:broker-down", "title": "", "status": 503, "detail": "No broker.", "remedy": "Wait.",'
    ' "errors": []}'
)
HANG_UP = 0


class Scripted(ThreadingHTTPServer):
    """Gives the answers in their order and notes what it was asked."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []
        self.received: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.headers["Idempotency-Key"]))
        self.server.received.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        status, body = self.server.answers.pop(0)
        if status == HANG_UP:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Scripted]]:
    started = []

    def start(*answers: tuple[int, str]) -> Scripted:
        server = Scripted(*answers)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_busy_service_is_asked_again_with_the_same_key(serve: Callable[..., Scripted]) -> None:
    server = serve((503, DOWN), (429, DOWN), (201, RUN))
    with Client(server.url) as client:
        assert client.start_run("01936f5e-7c1a-7a3e-8f00-0242ac120002").id == "1"
    assert len(server.asked) == 3
    (key,) = {key for _, key in server.asked}
    assert key is not None


def test_a_cut_connection_is_taken_up_where_twice_is_once(serve: Callable[..., Scripted]) -> None:
    server = serve((HANG_UP, ""), (201, RUN))
    with Client(server.url) as client:
        assert client.start_run("01936f5e-7c1a-7a3e-8f00-0242ac120002").id == "1"


def test_a_command_that_may_have_been_carried_out_is_not_given_again(serve: Callable[..., Scripted]) -> None:
    server = serve((HANG_UP, ""), (200, RUN))
    with Client(server.url) as client, pytest.raises(Unavailable, match="does not answer"):
        client.pause("1")
    assert server.asked == [("POST", None)]


def test_patience_ends_with_the_error_that_was_answered(serve: Callable[..., Scripted]) -> None:
    server = serve(*[(503, DOWN)] * 9)
    with Client(server.url, patience_s=0.6) as client, pytest.raises(Unavailable, match=r"No broker\.\n→ Wait\."):
        client.pause("1")
    assert 2 <= len(server.asked) <= 4


def test_what_is_wrong_is_not_asked_twice(serve: Callable[..., Scripted]) -> None:
    unknown = DOWN.replace("broker-down", "something-newer")
    server = serve((422, unknown), (200, RUN))
    with Client(server.url) as client, pytest.raises(AuditError, match="No broker"):
        client.run("1")
    assert len(server.asked) == 1


def test_an_event_loop_waits_as_patiently(serve: Callable[..., Scripted]) -> None:
    server = serve((503, DOWN), (HANG_UP, ""), (201, RUN))

    async def ask() -> str:
        async with AsyncClient(server.url) as client:
            return (await client.start_run("01936f5e-7c1a-7a3e-8f00-0242ac120002")).id

    assert asyncio.run(ask()) == "1"


def test_a_service_that_is_not_there_says_how_to_start_it() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, patience_s=0.5) as client, pytest.raises(Unavailable, match="audit-service serve"):
        client.run("1")


def test_an_address_of_something_else_is_told_from_the_service(serve: Callable[..., Scripted]) -> None:
    server = serve((404, "<html>"), (500, '["no", "problem"]'))
    with Client(server.url) as client:
        for _ in range(2):
            with pytest.raises(Unavailable, match="which is not this service"):
                client.run("1")


PAIRS = (
    '{"id": "1", "name": "x", "digest": "0", "count": 1, "behavior_version_id": null, "provenance": null,'
    ' "created_at": "2026-11-21T00:00:00Z"}'
)


def test_a_file_is_sent_whole_again_from_its_beginning(serve: Callable[..., Scripted], tmp_path: Path) -> None:
    file, content = tmp_path / "pairs.csv", b"a,b\n" * 1_000_000
    file.write_bytes(content)
    answers = [(503, DOWN), (HANG_UP, ""), (201, PAIRS)]
    server = serve(*answers)
    with Client(server.url) as client:
        assert client.upload_pairs(file, name="x", file_format=PairFormat.CSV).count == 1
    waiting = serve(*answers)

    async def upload() -> PairSet:
        async with AsyncClient(waiting.url) as client:
            return await client.upload_pairs(file, name="x", file_format=PairFormat.CSV)

    assert asyncio.run(upload()).count == 1
    for one in (server, waiting):
        assert [received == content for received in one.received] == [True] * 3
        assert len({key for _, key in one.asked}) == 1


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(InvalidInput, match="cannot be read"):
        client.upload_pairs(tmp_path / "none.csv", name="x", file_format=PairFormat.CSV)
