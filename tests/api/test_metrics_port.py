"""The metrics on a port of their own: without a key, also while the event loop is busy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from reward_service.telemetry.metrics import Metrics
from tests.live import until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    """The service without models, with an API key: its port and that of its metrics."""
    port, metrics_port = free_port(), free_port()
    options = {"encoder": "none", "gold": "none", "supervise": "false", "port": port, "metrics-port": metrics_port}
    command = [sys.executable, "-m", "reward_service", *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, env=os.environ | {"GLASSBOX_API_KEY": "s3cret"}) as process:
        try:
            until(lambda: answers(port) and answers(metrics_port), 180)
            yield port, metrics_port
        finally:
            process.terminate()


def answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
    except httpx.TransportError:
        return False
    return True


@pytest.mark.slow
def test_the_port_of_the_metrics_needs_no_key_and_has_no_other_route(ports: tuple[int, int]) -> None:
    port, metrics_port = (f"http://127.0.0.1:{number}" for number in ports)

    refused = httpx.get(f"{port}/metrics").status_code
    served = httpx.get(f"{metrics_port}/metrics")

    assert refused == 401
    assert served.status_code == 200
    assert 'glassbox_refused_total{cause="unauthorized"' in served.text
    assert "glassbox" in httpx.get(f"{port}/info", headers={"x-api-key": "s3cret"}).text
    assert "max_items" not in httpx.get(f"{metrics_port}/info").text


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
            Metrics().serve("127.0.0.1", port)
