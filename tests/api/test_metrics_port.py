"""The metrics on a port of their own: without a key, also while the event loop is busy."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from reward_service.telemetry.metrics import Metrics


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_the_port_of_the_metrics_needs_no_key_and_no_event_loop() -> None:
    metrics, port = Metrics(), free_port()
    metrics.refused("unknown", "unauthorized")
    metrics.serve("127.0.0.1", port)

    async def fetch_on_a_blocked_loop() -> str:
        return httpx.get(f"http://127.0.0.1:{port}/metrics").text  # noqa: ASYNC210 - it blocks the loop on purpose

    assert 'glassbox_refused_total{cause="unauthorized",route="unknown"} 1.0' in asyncio.run(
        fetch_on_a_blocked_loop()
    )


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
            Metrics().serve("127.0.0.1", port)
