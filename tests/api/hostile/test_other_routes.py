"""Attacks on routes that do not score: many requests over many connections, long queries, unanswered requests."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from load.service import raise_descriptor_limit
from reward_service.settings import Settings
from tests.api.hostile.service import HostileTarget
from tests.api.hostile.witness import MAX_ERROR_BYTES, Witness
from tests.live import item, serving, until

pytestmark = pytest.mark.slow

ROUTES = ("/info", "/openapi.json", "/metrics", "/datasets", "/docs", "/", "/healthz", "/readyz", "/unknown")
LONG_QUERY = "&".join(f"k{n}" for n in range(8_000))
CONNECTIONS = 50
SECONDS = 3.0


@pytest.fixture(scope="module", autouse=True)
def _descriptors() -> None:
    raise_descriptor_limit()


def head(target: HostileTarget, method: str, path: str) -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in target.headers().items())
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{headers}\r\n".encode()


def connect(url: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=30)


def flood(target: HostileTarget, request: bytes, connections: int = CONNECTIONS) -> bytes:
    """Send `request` on many connections, again on each that has answered, for some seconds; the last answer."""
    answer = b""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(connections):
            connection = stack.enter_context(closing(connect(target.url)))
            connection.sendall(request)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        give_up = time.monotonic() + SECONDS
        while time.monotonic() < give_up:
            for key, _ in selector.select(0.1):
                with suppress(BlockingIOError, ConnectionResetError, BrokenPipeError):
                    received = key.fileobj.recv(1_000_000)  # type: ignore[union-attr]
                    answer = received or answer
                    if received.startswith(b"HTTP/1.1 ") and len(request) < 10_000:
                        key.fileobj.send(request)  # type: ignore[union-attr]
    return answer


@pytest.mark.parametrize("path", ROUTES)
def test_a_route_that_many_connections_request_delays_nobody(target: HostileTarget, path: str) -> None:
    with Witness(target):  # asserts the bounds
        answer = flood(target, head(target, "GET", path))

    assert answer


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/datasets/x"), ("GET", "/info"), ("GET", "/datasets"), ("GET", "/unknown"), ("GET", "/healthz")],
)
def test_the_parameters_of_every_url_are_bounded(target: HostileTarget, method: str, path: str) -> None:
    url = f"{target.url}{path}?{LONG_QUERY}"
    with Witness(target):
        replies = [httpx.request(method, url, headers=target.headers()) for _ in range(100)]

    assert {reply.status_code for reply in replies} == {413}
    assert max(len(reply.content) for reply in replies) <= MAX_ERROR_BYTES
    assert replies[0].json()["errors"] == [{"field": "url", "message": "has more than 100 parameters"}]


@contextmanager
def uploading(url: str) -> Iterator[socket.socket]:
    """A connection on which the start of an upload was sent."""
    with closing(connect(url)) as connection:
        connection.sendall(b"PUT /datasets/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        yield connection


def test_a_caller_with_too_many_unanswered_requests_is_told_when_to_retry() -> None:
    with serving(Settings(encoder="none", gold="none", max_other_requests=2)) as url, ExitStack() as held:
        for _ in range(2):
            held.enter_context(uploading(url))
        row = {"prompt": "Why?", "reference": "x"}
        until(lambda: httpx.put(f"{url}/datasets/other", json=row).status_code == 429)
        refused = httpx.put(f"{url}/datasets/other", json=row)
        probes = [httpx.get(f"{url}{path}").status_code for path in ("/healthz", "/readyz", "/info", "/metrics")]
        scored = httpx.post(f"{url}/score", json={"recipe": "li", "items": [item()]})
        held.close()

        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert "max_other_requests" in refused.json()["detail"]
        assert (probes, scored.status_code) == ([200] * 4, 200)
        until(lambda: httpx.put(f"{url}/datasets/other", json=row).status_code == 200)
