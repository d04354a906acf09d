"""Connections that do nothing: many, silent, half-read, never closed. Others are served, and the service stops."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from load.service import raise_descriptor_limit
from tests.api.hostile.service import STOP_S, HostileTarget, started
from tests.api.hostile.witness import Witness
from tests.live import metric, until

pytestmark = pytest.mark.slow

BODY = json.dumps({"items": [{"prompt": "Why?", "response": "Because."}]}).encode()
HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LARGE_HEAD = HEAD + b"".join(b"x-%d: %s\r\n" % (n, b"a" * 900) for n in range(60))
LIMIT = 90


@pytest.fixture(scope="module", autouse=True)
def _descriptors() -> None:
    raise_descriptor_limit()


def connect(target: HostileTarget, address: str = "127.0.0.1") -> socket.socket:
    where = urlsplit(target.url)
    there = str(where.hostname), int(where.port or 0)
    return socket.create_connection(there, timeout=30, source_address=(address, 0))


def first_answer(connection: socket.socket) -> bytes:
    try:
        return connection.recv(10_000)
    except ConnectionResetError:
        return b""


# Number ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, control_url: str) -> Iterator[HostileTarget]:
    with started(tmp_path_factory.mktemp("small"), control_url, keys=False, max_connections=LIMIT) as running:
        yield running


def test_an_address_at_its_share_is_refused_and_others_are_not(small: HostileTarget) -> None:
    before = metric(small.url, "glassbox_refused_connections_total")
    with ExitStack() as stack:
        mine = [stack.enter_context(closing(connect(small, "127.0.0.3"))) for _ in range(LIMIT + 20)]
        until(lambda: metric(small.url, "glassbox_refused_connections_total") - before >= 20)
        refused = first_answer(mine[-1])
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refused
        assert b"connections are open" in refused
        assert metric(small.url, "glassbox_connections ") <= LIMIT
        other = stack.enter_context(closing(connect(small, "127.0.0.4")))
        other.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert first_answer(other).startswith(b"HTTP/1.1 200 ")
        for connection in mine[:40]:
            connection.close()
        until(lambda: metric(small.url, "glassbox_connections ") < LIMIT - 35)
        again = stack.enter_context(closing(connect(small, "127.0.0.3")))
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first_answer(again).startswith(b"HTTP/1.1 200 ")

    lines = re.findall(r"refused (\d+) connections, the last of 127\.0\.0\.3", small.log_text())
    assert 1 <= len(lines) <= 3, "one line in ten seconds"


def test_refused_connections_that_stay_open_take_no_descriptors(small: HostileTarget) -> None:
    with ExitStack() as stack:
        for _ in range(LIMIT + 300):
            stack.enter_context(closing(connect(small, "127.0.0.3")))

        until(lambda: psutil.Process(small.process.pid).num_fds() < 250)
        assert httpx.get(f"{small.url}/healthz").status_code == 200


@pytest.mark.parametrize("head", [b"", HEAD, LARGE_HEAD], ids=["silent", "half a head", "a large half head"])
def test_thousands_of_connections_are_cheap(target: HostileTarget, head: bytes) -> None:
    with Witness(target, max_health_s=0.2) as witness:  # the kernel copies 180 MB of large heads
        for _ in range(3_000):
            connection = witness.hold(closing(connect(target)))
            with suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(head)
        witness.wait(1)

    assert witness.peak_bytes < 60_000_000


# Time ------------------------------------------------------------------------------------------------------------

WORK = json.dumps(
    {"items": [{"prompt": "Why?", "response": f"{n} " + "word " * 500} for n in range(4000)]}
).encode()
QUIET: dict[str, Callable[[socket.socket], None]] = {
    "silent": lambda connection: None,
    "half a head": lambda connection: connection.sendall(HEAD),
    "no body": lambda connection: connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n"),
    "half a body": lambda connection: connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{"),
    "half a chunk": lambda connection: connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"),
    "refused, half a body": lambda c: c.sendall(HEAD + b"Content-Encoding: br\r\nContent-Length: 1000\r\n\r\n{"),
    "refused, closing": lambda c: c.sendall(
        HEAD + b"Connection: close\r\nContent-Encoding: br\r\nContent-Length: 1000\r\n\r\n{"
    ),
    "unread replies": lambda c: c.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300),
    "idle after a reply": lambda c: c.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "work": lambda c: c.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(WORK), WORK)),
}


@pytest.mark.parametrize("name", QUIET)
def test_a_stop_signal_ends_the_process_in_its_bound(tmp_path: Path, control_url: str, name: str) -> None:
    with started(tmp_path, control_url, keys=False) as running, ExitStack() as stack:
        for _ in range(20):
            QUIET[name](stack.enter_context(closing(connect(running))))
        until(lambda: metric(running.url, "glassbox_connections ") >= 20)
        began = time.monotonic()
        running.process.terminate()
        running.process.wait(60)

        assert time.monotonic() - began < running.max_stop_s
        assert running.max_stop_s > STOP_S


# Addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("supervise", ["true", "false"])
def test_the_unspecified_ipv6_address_accepts_ipv4_too(supervise: str) -> None:
    """The service chooses the port: one that is free on one of the two protocols may be taken on the other."""
    options = [
        "--host",
        "::",
        "--allow-anonymous",
        "--encoder",
        "none",
        "--gold",
        "none",
        "--default-recipe",
        "li-rp",
    ]
    command = [sys.executable, "-m", "reward_service", "--port", "0", "--supervise", supervise, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            printed = (re.search(r" ready: http://\S+:(\d+)$", line) for line in process.stderr)
            port = next(found[1] for found in printed if found)
            for host in ("127.0.0.1", "[::1]"):
                until(lambda: _answers(f"http://{host}:{port}/info"), 60)  # noqa: B023 (called at once)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
