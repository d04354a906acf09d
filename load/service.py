"""The real service as a child of ours: started, found, measured, killed.

python -m reward_service (supervisor) ─▶ the process that serves          one process group, one temporary log
Service.usage() ── resident memory and open descriptors of all of them    Watch ── the same, every second
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from reward_service.process.supervisor import OPTION
from tools.demo import free_port

__all__ = ["MIB", "Service", "SoakError", "Usage", "Watch", "raise_descriptor_limit"]

_START_S = 180.0
_STOP_S = 60.0
_CHILD = f"{OPTION}="
"""What stands in the command line of a process that a supervisor has started."""
MIB = 2**20


class SoakError(Exception):
    """A scenario cannot go on; the message says why."""


@dataclass(frozen=True)
class Usage:
    """What the processes of a service take."""

    at_s: float
    """On the monotonic clock."""
    rss_bytes: int
    descriptors: int

    @property
    def rss_mib(self) -> float:
        return self.rss_bytes / MIB


class Service:
    """`python -m reward_service` with the embedded models on a free port of the loopback.

    Args:
        log: its output is appended there.
        options: of its command line.
    """

    def __init__(self, log: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, on the same port each time."""
        command = [sys.executable, "-m", "reward_service", "--port", str(self.port), "--log-level", "warning"]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *self._options], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def stop(self) -> bool:
        """Tell it to stop, as an operator does; whether all of it did within a minute. What is left is killed."""
        process, tree = self._started(), self._tree()
        if process.poll() is None:
            process.terminate()
        _, left = psutil.wait_procs(tree, _STOP_S)
        self.kill_all()
        return not left

    def kill_all(self) -> None:
        """SIGKILL to every process of it."""
        process, tree = self._started(), self._tree()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_STOP_S)
        psutil.wait_procs(tree, _STOP_S)  # each holds the port
        self._wait_until_free()

    def _wait_until_free(self) -> None:
        """Return when nobody listens on its port: a child whose parent died ends a moment later."""
        deadline = time.monotonic() + _STOP_S
        while True:
            try:
                socket.create_server(("127.0.0.1", self.port)).close()
            except OSError as exc:
                if time.monotonic() > deadline:
                    raise SoakError(f"port {self.port} is still taken after {_STOP_S:.0f} s") from exc
                time.sleep(0.05)
            else:
                return

    def worker(self) -> psutil.Process:
        """The process that serves. Raises SoakError when there is not exactly one."""
        serving = [p for p in self._tree() if any(_CHILD in part for part in _command(p))]
        if len(serving) != 1:
            raise SoakError(f"{len(serving)} processes serve, expected one: {self.log_tail()}")
        return serving[0]

    def wait_until_ready(self, other_than: psutil.Process | None = None) -> float:
        """Return the seconds until it is ready to score; with `other_than`, by another process than that one."""
        began = time.monotonic()
        while not (self._replaced(other_than) and self._ready()):
            if self._started().poll() is not None:
                raise SoakError(f"the service ended by itself: {self.log_tail()}")
            if time.monotonic() - began > _START_S:
                raise SoakError(f"the service is not ready after {_START_S:.0f} s: {self.log_tail()}")
            time.sleep(0.1)
        return time.monotonic() - began

    def usage(self) -> Usage:
        """What all its processes take now."""
        rss = descriptors = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                rss += process.memory_info().rss
                descriptors += process.num_fds()
        return Usage(time.monotonic(), rss, descriptors)

    def metric(self, name: str) -> float:
        """A metric's value, summed over the series that begin with `name`."""
        text = httpx.get(f"{self.url}/metrics", timeout=30).raise_for_status().text
        return sum(float(row.rsplit(" ", 1)[1]) for row in re.findall(rf"^{re.escape(name)}.*$", text, re.M))

    def log_tail(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=15).is_success
        except httpx.TransportError:
            return False

    def _replaced(self, other_than: psutil.Process | None) -> bool:
        """Processes are told apart by pid and start, so that a pid may come again."""
        serving = [p for p in self._tree() if any(_CHILD in part for part in _command(p))]
        return other_than is None or (len(serving) == 1 and serving[0] != other_than)

    def _tree(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._started().pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SoakError("the service was not started")
        return self._process


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        command: Sequence[str] = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ()
    return command


class Watch:
    """Samples of a service's usage, in a thread, until the `with` block ends."""

    def __init__(self, service: Service, every_s: float = 1.0) -> None:
        self.samples: list[Usage] = []
        self._service = service
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self.samples.append(self._service.usage())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._thread.is_alive():
            raise SoakError("the thread that samples has ended early: its samples say nothing")
        self._stop.set()
        self._thread.join()

    @property
    def peak(self) -> Usage:
        """The sample with the most memory."""
        return max(self.samples, key=lambda sample: sample.rss_bytes)

    @property
    def memory(self) -> str:
        """In words: what was resident before, and at most."""
        return f"{self.samples[0].rss_mib:.0f} MiB, {self.peak.rss_mib:.0f} MiB"

    @property
    def growth(self) -> float:
        """The most that was resident, as a multiple of what was before."""
        return self.peak.rss_bytes / self.samples[0].rss_bytes

    @property
    def max_descriptors(self) -> int:
        return max(sample.descriptors for sample in self.samples)

    def _sample(self) -> None:
        while not self._stop.wait(self._every_s):
            self.samples.append(self._service.usage())


def raise_descriptor_limit() -> int:
    """Allow us and our children as many descriptors as the system lets us have; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
