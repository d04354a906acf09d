"""What a connection can cost before it has shown a key: sockets that send heads without end, or none."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import uvicorn

from reward_service.process.connection_limits import MAX_HEAD_BYTES, LimitedHttpProtocol
from reward_service.process.connections import Connections
from reward_service.telemetry.metrics import Metrics
from tests.live import until

ANSWER = b"a" * 20_000_000
LINE = b"x-filler: " + b"a" * 1_000 + b"\r\n"
START = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
PIPELINED = b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n"


class Impatient(LimitedHttpProtocol):
    """The service's protocol with clocks that a test can wait for."""

    max_head_s = 0.3
    max_stall_s = 0.3


class App:
    """Answers once the body has come; `/wait` never, `/later` after `gate`, `/large` and `/pieces` at length."""

    def __init__(self) -> None:
        self.heads = 0
        self.gate = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.heads += 1
        while (message := await receive()).get("more_body"):
            pass
        if scope["path"] == "/wait":
            while message["type"] != "http.disconnect":
                message = await receive()
            return
        if scope["path"] == "/later":
            await asyncio.to_thread(self.gate.wait, 20)
        pieces = {"/large": [ANSWER], "/pieces": [ANSWER[:-1], b"a"]}.get(scope["path"], [b"ok"])
        headers = [(b"content-length", b"%d" % sum(map(len, pieces)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": piece is not pieces[-1]})


class Served:
    """A server with the protocol under test."""

    def __init__(self, protocol: type[LimitedHttpProtocol]) -> None:
        self.app = App()
        http: Any = partial(protocol, connections=Connections(None, None, Metrics()))
        config = uvicorn.Config(self.app, port=0, http=http, ws="none", log_config=None, lifespan="off")
        self.server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def connect(self) -> socket.socket:
        where = urlsplit(self.url)
        return socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=20)


@contextmanager
def serving(protocol: type[LimitedHttpProtocol] = LimitedHttpProtocol) -> Iterator[Served]:
    served = Served(protocol)
    thread = threading.Thread(target=served.server.run, daemon=True)
    thread.start()
    until(lambda: served.server.started)
    try:
        yield served
    finally:
        served.server.force_exit = served.server.should_exit = True
        thread.join()


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:  # it closed with some of ours unread
        pass
    return received


def flood(connection: socket.socket, piece: bytes, n_bytes: int) -> int:
    """Bytes that could be sent of `n_bytes`, before the server closed."""
    sent = 0
    try:
        while sent < n_bytes:
            connection.sendall(piece)
            sent += len(piece)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return sent


# Bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (START, LINE * 60),
        (START + b"x: ", b"a" * 60_000),
        (b"GET /", b"a" * 60_000),
        (CHUNKED, LINE * 60),
        (START + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 60_000),
    ],
    ids=["header lines", "one header", "URL", "trailers", "chunk extension"],
)
def test_what_has_no_end_is_cut_off_soon_and_takes_no_memory(start: bytes, piece: bytes) -> None:
    with serving() as served, served.connect() as connection:
        before = psutil.Process().memory_info().rss
        connection.sendall(start)
        sent = flood(connection, piece, 100_000_000)

        assert sent < 20_000_000, "the kernel's buffers, and what was under way"
        until(lambda: served.connections == 0)
        assert psutil.Process().memory_info().rss - before < 40_000_000
        assert httpx.get(served.url).status_code == 200


def test_a_head_that_is_too_long_is_answered_431() -> None:
    head = START + LINE * (MAX_HEAD_BYTES // len(LINE) + 1)
    with serving() as served, served.connect() as connection:
        connection.sendall(head[:MAX_HEAD_BYTES])

        assert rest(connection).startswith(b"HTTP/1.1 431 ")
        assert served.app.heads == 0


def test_a_head_of_nearly_the_limit_and_a_body_beyond_it_pass() -> None:
    filler = "a" * (MAX_HEAD_BYTES - 2_000)
    with serving() as served, httpx.Client() as client:
        for _ in range(3):
            answer = client.post(served.url, headers={"x-filler": filler}, content=b"b" * 1_000_000)

            assert answer.status_code == 200


@pytest.mark.parametrize(
    ("nonsense", "status"), [(LINE * 50, b"431"), (b"no header\r\n", b"400")], ids=["too long", "malformed"]
)
def test_a_later_request_is_refused_after_the_answer_that_is_owed(nonsense: bytes, status: bytes) -> None:
    with serving() as served, served.connect() as connection:
        connection.sendall(b"GET /later HTTP/1.1\r\nhost: x\r\n\r\n" + START)
        until(lambda: served.app.heads == 1)
        connection.sendall(nonsense)
        sender = threading.Thread(target=flood, args=(connection, nonsense, 100_000))
        sender.start()
        served.app.gate.set()

        assert re.findall(rb"HTTP/1.1 (\d+)", rest(connection)) == [b"200", status]
        sender.join()


@pytest.mark.parametrize("n", [2, 16, pytest.param(1_000, marks=pytest.mark.slow)])
def test_requests_that_came_before_the_answer_to_the_first_are_answered_in_order(n: int) -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(n))
    with serving() as served, served.connect() as connection:
        connection.sendall(requests + b"GET / HTTP/1.0\r\n\r\n")

        assert rest(connection).count(b"HTTP/1.1 200 OK") == n + 1


def test_requests_without_end_wait_in_the_kernel() -> None:
    with serving() as served, served.connect() as connection:
        before = psutil.Process().memory_info().rss
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            flood(connection, PIPELINED * 1_000, 100_000_000)

        assert served.app.heads == 1
        assert psutil.Process().memory_info().rss - before < 40_000_000
        assert httpx.get(served.url).status_code == 200


# Time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"GET / HT", START], ids=["nothing", "half a line", "half a head"])
def test_a_head_that_does_not_come_ends_its_connection(begun: bytes) -> None:
    with serving(Impatient) as served, served.connect() as connection:
        connection.sendall(begun)

        assert rest(connection) == b""
        assert served.app.heads == 0


def test_a_head_that_trickles_has_no_more_time_than_one_that_stops() -> None:
    over = threading.Event()
    with serving(Impatient) as served, served.connect() as connection:

        def trickle() -> None:
            for byte in START + LINE * 10:
                if over.wait(0.02) or not flood(connection, bytes([byte]), 1):
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            assert rest(connection) == b""
            assert served.connections == 0
        finally:
            over.set()
            sender.join()


def test_the_next_request_has_its_own_time_and_no_more() -> None:
    with serving(Impatient) as served, served.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.read() == b"ok"
        connection.sendall(b"GET / HT")

        assert rest(connection) == b""


def test_a_body_and_an_answer_may_take_longer_than_a_head() -> None:
    with serving(Impatient) as served, served.connect() as connection, served.connect() as clock:
        connection.sendall(START + b"content-length: 2\r\n\r\na")
        until(lambda: served.app.heads == 1)
        assert rest(clock) == b"", "the time of a head is over"
        connection.sendall(b"b")

        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("path", ["/large", "/pieces"])
def test_an_answer_that_nobody_takes_is_dropped(path: str) -> None:
    with serving(Impatient) as served, served.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        until(lambda: served.app.heads == 1)
        until(lambda: served.connections == 0)

        assert len(rest(connection)) < len(ANSWER)


def test_another_request_buys_an_answer_that_nobody_takes_no_time() -> None:
    with serving(Impatient) as served, served.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: served.app.heads == 1)
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: served.connections == 0)
