"""Servers as child processes: started, awaited, stopped.

server(command, ready_url, log)  any HTTP server, running while the `with` block is active
reward_service(log, *options)    the reward service on a free port, ready to score; its URL
wait_until(condition, …)         polls `condition`; raises StartError with the end of the log
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from reward_client.network import free_port

START_S = 180.0
STOP_S = 20.0
_POLL_S = 0.1
_TAIL_CHARS = 2000


class StartError(Exception):
    """A child process did not become ready; the message quotes the end of its log."""


def service_command(port: int, *options: str) -> list[str]:
    """The command line of the reward service on `port`."""
    return [sys.executable, "-m", "reward_service", "--port", str(port), "--log-level", "warning", *options]


@contextmanager
def reward_service(log: Path, *options: str) -> Iterator[str]:
    """Run the reward service on a free port and yield its URL once it is ready to score.

    Raises:
        StartError: it ended, or was not ready within 180 s.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with server(service_command(port, *options), f"{url}/readyz", log):
        yield url


@contextmanager
def server(
    command: Sequence[str], ready_url: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an HTTP server; the block starts when `ready_url` responds with success.

    The server runs in a new session, so that Ctrl-C reaches only the parent, which stops it.

    Raises:
        StartError: it ended, or did not respond within 180 s.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment or os.environ),
            start_new_session=True,
        )
        try:
            wait_until(lambda: responds(ready_url), process, log)
            yield process
        finally:
            stop(process)


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen[bytes], log: Path, timeout_s: float = START_S
) -> None:
    """Return when `condition` is true. Raises StartError when `process` ends or `timeout_s` pass before."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process.poll() is not None:
            raise StartError(f"the process ended with status {process.returncode}: {log_tail(log)}")
        if time.monotonic() > deadline:
            raise StartError(f"the process is not ready after {timeout_s:.0f} s: {log_tail(log)}")
        time.sleep(_POLL_S)


def responds(url: str) -> bool:
    """Whether GET `url` succeeds."""
    try:
        return httpx.get(url, timeout=15.0).is_success
    except httpx.TransportError:
        return False


def stop(process: subprocess.Popen[bytes], grace_s: float = STOP_S) -> None:
    """Send SIGTERM, and SIGKILL after `grace_s`; return when the process has ended."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_tail(log: Path) -> str:
    """The last 2,000 characters of a log file."""
    return log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL_CHARS:]
