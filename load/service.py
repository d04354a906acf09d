"""The real service as a child process: started, measured, killed, started again on the same port.

python -m reward_service (supervisor) ─▶ serving process                one process group, one temporary log
Service.usage()  resident memory and open descriptors of all its processes
UsageSampler     the same, once per second
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from reward_client.network import free_port
from reward_service.process.supervisor import OPTION
from tools.processes import log_tail, responds, service_command, wait_until

__all__ = ["MIB", "ScenarioError", "Service", "Usage", "UsageSampler", "raise_descriptor_limit"]

_STOP_S = 60.0
_SERVING = f"{OPTION}="
"""An argument in the command line of every process that a supervisor starts."""
MIB = 2**20


class ScenarioError(Exception):
    """A scenario cannot continue; the message gives the reason."""


@dataclass(frozen=True)
class Usage:
    """Resources of all processes of a service."""

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
        log: its output is appended to this file.
        options: for its command line.
        key: an API key for `url`.
        sources: checkout of the project that it is started from; this one by default.
    """

    def __init__(self, log: Path, *options: str, key: str = "", sources: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://key:{key}@127.0.0.1:{self.port}" if key else f"http://127.0.0.1:{self.port}"
        self._sources = sources
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
        command = service_command(self.port, *self._options)
        environment = dict(os.environ)
        if self._sources is not None:
            folders = (self._sources / name for name in ("client", "services", "trainer"))
            environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def stop(self) -> bool:
        """Send SIGTERM, and kill what has not ended after a minute; whether all processes ended by themselves."""
        process, tree = self._running(), self._tree()
        if process.poll() is None:
            process.terminate()
        _, alive = psutil.wait_procs(tree, _STOP_S)
        self.kill_all()
        return not alive

    def kill_all(self) -> None:
        """Send SIGKILL to all its processes."""
        process, tree = self._running(), self._tree()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_STOP_S)
        psutil.wait_procs(tree, _STOP_S)  # each of them holds the port
        self._wait_until_port_is_free()

    def _wait_until_port_is_free(self) -> None:
        """A child of a killed parent ends a moment after it."""
        deadline = time.monotonic() + _STOP_S
        while True:
            try:
                socket.create_server(("127.0.0.1", self.port)).close()
            except OSError as exc:
                if time.monotonic() > deadline:
                    raise ScenarioError(f"port {self.port} is still in use after {_STOP_S:.0f} s") from exc
                time.sleep(0.05)
            else:
                return

    def serving_process(self) -> psutil.Process:
        """The process that serves requests. Raises ScenarioError unless there is exactly one."""
        serving = self._serving()
        if len(serving) != 1:
            raise ScenarioError(f"{len(serving)} serving processes, expected one: {log_tail(self._log)}")
        return serving[0]

    def wait_until_ready(self, other_than: psutil.Process | None = None) -> float:
        """Return the seconds until it is ready to score; with `other_than`, in another process than that one.

        Raises:
            StartError: it ended, or was not ready within 180 s.
        """
        began = time.monotonic()
        ready_url = f"{self.url}/readyz"
        wait_until(lambda: self._replaced(other_than) and responds(ready_url), self._running(), self._log)
        return time.monotonic() - began

    def usage(self) -> Usage:
        """The resources of all its processes now."""
        rss = descriptors = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
                rss += process.memory_info().rss
                descriptors += process.num_fds()
        return Usage(time.monotonic(), rss, descriptors)

    def metric(self, name: str) -> float:
        """The sum of all series of a metric whose text starts with `name`."""
        text = httpx.get(f"{self.url}/metrics", timeout=30).raise_for_status().text
        return sum(float(row.rsplit(" ", 1)[1]) for row in re.findall(rf"^{re.escape(name)}.*$", text, re.M))

    def _replaced(self, other_than: psutil.Process | None) -> bool:
        """psutil compares processes by pid and start time, so a reused pid is another process."""
        serving = self._serving()
        return other_than is None or (len(serving) == 1 and serving[0] != other_than)

    def _serving(self) -> list[psutil.Process]:
        return [p for p in self._tree() if any(_SERVING in part for part in _command(p))]

    def _tree(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._running().pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ScenarioError("the service was not started")
        return self._process


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        command: Sequence[str] = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ()
    return command


class UsageSampler:
    """Samples the resources of a service in a thread until the `with` block ends."""

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
            raise ScenarioError("the sampling thread ended early, so its samples are incomplete")
        self._stop.set()
        self._thread.join()

    @property
    def peak(self) -> Usage:
        """The sample with the most memory."""
        return max(self.samples, key=lambda sample: sample.rss_bytes)

    @property
    def memory(self) -> str:
        """Resident memory of the first sample and of the peak, as text."""
        return f"{self.samples[0].rss_mib:.0f} MiB, {self.peak.rss_mib:.0f} MiB"

    @property
    def growth_mib(self) -> float:
        """Resident memory at the peak, less that of the first sample."""
        return self.peak.rss_mib - self.samples[0].rss_mib

    @property
    def max_descriptors(self) -> int:
        return max(sample.descriptors for sample in self.samples)

    def _sample(self) -> None:
        while not self._stop.wait(self._every_s):
            self.samples.append(self._service.usage())


def raise_descriptor_limit() -> int:
    """Set the limit of open descriptors, for this process and its children, to the hard limit; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
