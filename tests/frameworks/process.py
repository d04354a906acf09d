"""A service in a process, which contract tests can stop and start on the same port.

This file runs in the environments of frameworks, so it imports httpx and the standard library only. The service
runs in the main environment, whose Python is $GLASSBOX_SERVICE_PYTHON.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PORTS = range(20_000, 32_000)
"""Below the ports of outgoing connections, of which one could take the port of a stopped service."""
START_S = 180.0
AWAY_S = float(os.environ.get("GLASSBOX_AWAY_S") or 3.0)
"""Seconds for which a service is away in the tests of clients that wait for it."""


class Launcher:
    """A process that starts services (`tests.frameworks.service`). The service runs in the main environment."""

    def __init__(self, log: Path) -> None:
        self.log = log
        python = os.environ.get("GLASSBOX_SERVICE_PYTHON") or str(ROOT / ".venv/bin/python")
        command = [python, "-m", "tests.frameworks.service"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    def start(self, options: Sequence[str]) -> int:
        """Start a service; the id of its process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(options) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the service did not start:\n{self.log.read_text()[-2000:]}"
        return int(answer)

    def close(self) -> None:
        """End the process and all services."""
        self._process.communicate()


class ServiceProcess:
    """The service with fake models."""

    def __init__(self, launcher: Launcher, *options: str, api_key: str | None = None) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.api_key = api_key
        self._launcher = launcher
        self._options = ["--port", str(port), *options, *(() if api_key is None else ("--api-key", api_key))]
        self._pid: int | None = None

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        self._pid = self._launcher.start(self._options)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when the service answers; fail when its process has ended, or after 180 s."""
        give_up = time.monotonic() + START_S
        while not self._is_ready():
            running = self._is_running() and time.monotonic() < give_up
            assert running, f"the service did not start:\n{self._launcher.log.read_text()[-2000:]}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process at once, as a crash does: connections break, later ones are refused."""
        while self._is_running():
            assert self._pid is not None
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.01)
        self._pid = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The service is away during the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def away(self, seconds: float = AWAY_S) -> Iterator[None]:
        """The service is away for `seconds` from the beginning of the block, and runs at its end."""
        self.stop()
        timer = threading.Timer(seconds, self.start)
        timer.start()
        try:
            yield
        finally:
            timer.join()
            self.wait_until_ready()

    def score(self, items: Sequence[Mapping[str, Any]], **options: Any) -> dict[str, Any]:
        """The reply of `POST /score`."""
        headers = {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}
        body = {"items": list(items), **options}
        reply = httpx.post(f"{self.url}/score", json=body, headers=headers, timeout=60)
        assert reply.status_code == 200, reply.text
        result: dict[str, Any] = reply.json()
        return result

    def _is_running(self) -> bool:
        if self._pid is None:
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.TransportError:
            return False


def _environment() -> dict[str, str]:
    """The variables of the service: none of the adapter's settings, and the source tree as path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GLASSBOX_", "PYTHON"))}
    sources = os.pathsep.join(str(ROOT / name) for name in ("client", "services", "trainer"))
    return kept | {"PYTHONPATH": sources}


def _free_port() -> int:
    """A port that is free now and is not given to outgoing connections."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
