"""Servers for tests of the client on real sockets, and ways to send a request to them."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from reward_client import AsyncRewardClient, Item, RetryPolicy, RewardClient, ScoreReply
from reward_client.transport import DeadlineTransport

ITEMS = [Item(prompt="p", response="r")]
NEVER = RetryPolicy(budget_s=0.0)
QUICK = RetryPolicy(budget_s=30.0, first_delay_s=0.01, max_delay_s=0.02)
BODY = json.dumps(
    {
        "rewards": [0.5],
        "results": [{"reward": 0.5}],
        "recipe": {"name": "rer", "hash": "x"},
        "models": {"relevance": "m", "gold": None},
        "timing_ms": {"queue": 0.0, "encode": 0.0, "gold": None, "total": 0.0},
    }
).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


@dataclass
class Served:
    """A server, and the requests it received."""

    url: str
    connections: int = 0
    keys: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test, so that a hanging handler returns."""


Behaviour = Callable[[Served, BaseHTTPRequestHandler, int], None]
"""Responds to a request; the number counts requests from 1."""


@contextmanager
def serving(
    behave: Behaviour, certificate: ssl.SSLContext | None = None, *, reads_body: bool = True
) -> Iterator[Served]:
    """A server on a port of this machine, over https with a `certificate`.

    With `reads_body=False`, `behave` reads the body of the request.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            with lock:
                served.connections += 1
            super().setup()

        def do_POST(self) -> None:
            if reads_body:
                self.rfile.read(int(self.headers["content-length"]))
            with lock:
                served.keys.append(self.headers["idempotency-key"])
                number = len(served.keys)
            behave(served, self, number)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """Clients that disconnect are expected here."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer(_: Served, handler: BaseHTTPRequestHandler, __: int) -> None:
    handler.wfile.write(WHOLE)


def hang(served: Served, _: BaseHTTPRequestHandler, __: int) -> None:
    served.over.wait(LIFETIME_S)


def trickle(served: Served, handler: BaseHTTPRequestHandler, _: int) -> None:
    """Send one byte of the body every 20 ms: each pause is short, the response takes hours."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    for _pause in trickling(served.over, 0.02):
        handler.wfile.write(b" ")


def half_then_whole(_: Served, handler: BaseHTTPRequestHandler, number: int) -> None:
    handler.wfile.write(WHOLE if number == 3 else WHOLE[: -len(BODY) // 2])
    handler.close_connection = True


LIFETIME_S = 60.0
"""Seconds after which the servers close a connection. A client that had not ended the attempt would then report a
closed connection instead of its timeout, so the tests need no limit on elapsed time."""


def trickling(over: threading.Event, pause_s: float) -> Iterator[None]:
    """Yield every `pause_s` seconds until the test is over, LIFETIME_S at most."""
    end_s = time.monotonic() + LIFETIME_S
    while not over.wait(pause_s) and time.monotonic() < end_s:
        yield


NARROW = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)]
"""A small send buffer, so that the kernel cannot take a large request that the server does not read."""


def score(urls: str | list[str], items: list[Item] = ITEMS, **how: Any) -> ScoreReply:
    with RewardClient(urls, transport=DeadlineTransport(socket_options=NARROW), **how) as client:
        return client.score(items)


def score_async(urls: str | list[str], items: list[Item] = ITEMS, **how: Any) -> ScoreReply:
    async def ask() -> ScoreReply:
        transport = httpx.AsyncHTTPTransport(socket_options=NARROW)
        async with AsyncRewardClient(urls, transport=transport, **how) as client:
            return await client.score(items)

    return asyncio.run(ask())


def score_by_default_transport(url: str, **how: Any) -> ScoreReply:
    with RewardClient(url, **how) as client:
        return client.score(ITEMS)


def score_async_by_default_transport(url: str, **how: Any) -> ScoreReply:
    async def ask() -> ScoreReply:
        async with AsyncRewardClient(url, **how) as client:
            return await client.score(ITEMS)

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("ask", [score, score_async])
Ask = Callable[..., ScoreReply]


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


@contextmanager
def answering(answer: Callable[[str], Answer]) -> Iterator[str]:
    """A server of any kind; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, body = answer(self.path)
            self.send_response_only(status)
            for name, value in ({"date": formatdate(usegmt=True)} | headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
