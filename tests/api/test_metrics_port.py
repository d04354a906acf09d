"""The metrics on a port of their own: without a key, also while the event loop is busy, whatever others send."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import pytest

from reward_service.process.metrics_server import KEPT_S, MAX_CONNECTIONS, TIMEOUT_S, MetricsServer
from reward_service.telemetry.metrics import Metrics


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    metrics = Metrics()
    metrics.refused("unknown", "unauthorized")
    with MetricsServer(metrics.exposition, "127.0.0.1", 0) as server:
        server.start()
        yield server
        server.shutdown()


def connect(server: MetricsServer, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", server.server_port), timeout=3 * TIMEOUT_S, source_address=(address, 0)
    )


def test_the_port_of_the_metrics_needs_no_key_and_no_event_loop(server: MetricsServer) -> None:
    async def fetch_on_a_blocked_loop() -> str:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        return httpx.get(url).text  # noqa: ASYNC210 - it blocks the loop on purpose

    assert 'glassbox_refused_total{cause="unauthorized",route="unknown"} 1.0' in asyncio.run(
        fetch_on_a_blocked_loop()
    )


def test_a_head_has_the_length_of_the_metrics_and_no_body(server: MetricsServer) -> None:
    reply = httpx.head(f"http://127.0.0.1:{server.server_port}/metrics")

    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


def test_metrics_that_cannot_be_made_are_a_readable_error() -> None:
    def exposition() -> bytes:
        raise ValueError("odd")

    with MetricsServer(exposition, "127.0.0.1", 0) as server:
        server.start()
        reply = httpx.get(f"http://127.0.0.1:{server.server_port}/metrics")
        server.shutdown()

    assert reply.status_code == 500
    assert "ValueError" in reply.text


def test_metrics_that_cannot_be_made_are_tried_and_logged_no_more_often_than_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def exposition() -> bytes:
        raise ValueError("odd")

    with MetricsServer(exposition, "127.0.0.1", 0) as server:
        began = time.monotonic()
        assert all("ValueError" in str(server.exposition()) for _ in range(1_000))
        seconds = time.monotonic() - began

    assert 1 <= len(caplog.records) <= 1 + seconds / KEPT_S


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
            MetricsServer(bytes, "127.0.0.1", port)


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half a head"])
def test_a_connection_without_a_request_is_closed_in_time(server: MetricsServer, sent: bytes) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(sent)

        assert connection.recv(1) == b""  # fails after three times the limit


def test_connections_that_are_held_take_few_threads_and_no_place_of_a_scraper(server: MetricsServer) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(closing(connect(server, "127.0.0.3"))).sendall(b"GET / HTTP/1.1\r\n")
        scraper = stack.enter_context(closing(connect(server, "127.0.0.2")))
        for _ in range(300):
            stack.enter_context(closing(connect(server, "127.0.0.3"))).sendall(b"GET / HTTP/1.1\r\n")
        most = threading.active_count()
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")

        assert scraper.recv(100).startswith(b"HTTP/1.0 200 OK\r\n")
        assert most <= before + MAX_CONNECTIONS


def test_scrapes_in_one_second_share_an_exposition() -> None:
    made: list[int] = []

    def exposition() -> bytes:
        made.append(1)
        return b"metrics"

    with MetricsServer(exposition, "127.0.0.1", 0) as server:
        assert {server.exposition() for _ in range(1_000)} == {b"metrics"}

    assert len(made) <= 2
