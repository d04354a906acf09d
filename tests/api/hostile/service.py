"""Services to attack, each in a separate process; and a server that does nothing, to measure the machine with.

started(folder, …)   the service, with fake models or the embedded ones, with two API keys or without keys
control()            a server that answers every request at once: its latency is that of the machine
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from reward_client.network import free_port
from reward_service.settings import Settings
from tools.processes import responds, server, wait_until

__all__ = ["ATTACKER", "HONEST", "STOP_S", "Caller", "HostileTarget", "control", "started"]

STOP_S = 5
"""`stop_timeout_s` of the services."""
_STOP_MARGIN_S = 5.0
"""Seconds beyond `stop_timeout_s` until the process has ended: the interpreter's own end, on a loaded machine."""
_CACHE_BYTES = 16 * 1024 * 1024
"""`cache_bytes` of the services: what the vector cache keeps is not what requests hold."""


@dataclass(frozen=True)
class Caller:
    """One of the two callers: with keys they differ by key, without by address."""

    key: str
    address: str

    def headers(self, with_keys: bool) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"} if with_keys else {}


ATTACKER = Caller("attacker-key-0123456789abcdef", "127.0.0.1")
HONEST = Caller("honest-key-0123456789abcdef", "127.0.0.2")


@dataclass
class HostileTarget:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]
    settings: Settings
    with_keys: bool
    log: Path
    control_url: str

    @property
    def budget_bytes(self) -> int:
        """The memory that requests may hold together, as the settings state it."""
        return self.settings.max_waiting_bytes

    @property
    def max_stop_s(self) -> float:
        """Seconds from SIGTERM in which the process has to end, also in the middle of work."""
        return STOP_S + _STOP_MARGIN_S

    def headers(self, caller: Caller = ATTACKER) -> dict[str, str]:
        return caller.headers(self.with_keys)

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> float:
        """Send SIGTERM, and wait for thrice the bound; the seconds until the process ended."""
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(3 * self.max_stop_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - began


@contextmanager
def started(
    folder: Path, control_url: str, *, keys: bool = True, embedded: bool = False, **settings: object
) -> Iterator[HostileTarget]:
    """A service that is ready; at the end of the block it has to stop within its bound.

    Args:
        folder: for its log and its keys.
        control_url: of `control`.
        keys: whether its callers have API keys.
        embedded: with the embedded models, under its supervisor, instead of fake ones.
        settings: that differ from what the service ships with.
    """
    given = {"stop_timeout_s": STOP_S, "cache_bytes": _CACHE_BYTES} | settings
    if keys:
        file = folder / "keys"
        file.write_text(f"{ATTACKER.key}\n{HONEST.key}\n", encoding="utf-8")
        given["api_keys_file"] = str(file)
    port, log = free_port(), folder / "service.log"
    module = "reward_service" if embedded else "tests.api.hostile.fake_service"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    command = [sys.executable, "-m", module, "--port", str(port), "--log-level", "warning", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    target = HostileTarget(url, process, Settings(**given), keys, log, control_url)
    try:
        wait_until(lambda: responds(f"{url}/readyz"), process, log)
        _warm_up(target)
        yield target
    finally:
        running = process.poll() is None
        seconds = target.stop()
    if running:
        assert seconds <= target.max_stop_s, f"it took {seconds:.1f} s to stop; {target.log_text()[-2000:]}"


def _warm_up(target: HostileTarget) -> None:
    """A request of some size, so that what is allocated once is part of the idle memory."""
    items = [{"prompt": "Why?", "response": f"word {n} " * 50} for n in range(256)]
    for caller in (ATTACKER, HONEST):
        answer = httpx.post(
            f"{target.url}/score", json={"items": items}, headers=target.headers(caller), timeout=60
        )
        assert answer.status_code == 200, answer.text


_CONTROL = """
import asyncio
from reward_service.process.cpu_scheduling import set_batch

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nok")
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", {port})
    await server.serve_forever()

set_batch()
asyncio.run(main())
"""


@contextmanager
def control(folder: Path) -> Iterator[str]:
    """The URL of a server that answers every request at once."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with server([sys.executable, "-c", _CONTROL.format(port=port)], url, folder / "control.log"):
        yield url
