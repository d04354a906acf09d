"""A service in a process, which contract tests can stop and start on the same port.

This file runs in the environments of frameworks, so it imports pytest, httpx and the standard library only. The
service runs in the main environment, whose Python is $GLASSBOX_SERVICE_PYTHON.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PORTS = range(20_000, 32_000)
"""Below the ports of outgoing connections, of which one could take the port of a stopped service."""
START_S = 180.0


class ServiceProcess:
    """The service with fake models (`tests.frameworks.service`)."""

    def __init__(self, log: Path, *options: str, api_key: str | None = None) -> None:
        self.api_key = api_key
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._options = [*options, *(() if api_key is None else ("--api-key", api_key))]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        python = os.environ.get("GLASSBOX_SERVICE_PYTHON") or str(ROOT / ".venv/bin/python")
        command = [python, "-m", "tests.frameworks.service", "--port", str(self._port), *self._options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=_environment(), stdout=log, stderr=log, start_new_session=True
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when the service answers; fail when its process has ended, or after 180 s."""
        give_up = time.monotonic() + START_S
        while not self._is_ready():
            assert self._process is not None, "the service was not started"
            running = self._process.poll() is None and time.monotonic() < give_up
            assert running, f"the service did not start:\n{self._log.read_text()[-2000:]}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process at once, as a crash does: connections break, later ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The service is away during the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def away(self, seconds: float) -> Iterator[None]:
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
