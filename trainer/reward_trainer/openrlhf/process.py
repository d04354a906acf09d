"""The real OpenRLHF as a child process: start it, read what it prints, and leave nothing of it behind.

    start() ── own session, log file, private Ray ──▶ python -m openrlhf.cli.train_ppo_ray …
    new_lines() ── follows the log file
    stop()      ── asks, waits, then ends every process that carries this launch's mark

Ray detaches its daemons, so a process group does not hold them all; the mark is an environment variable that they
inherit. The kernel ends the child when we die, and Ray ends with its driver.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

__all__ = ["OpenRLHFProcess", "child_environment"]

MODULE = "openrlhf.cli.train_ppo_ray"
_MARK = "GLASSBOX_LAUNCH"
_STOP_GRACE_S = 15.0
"""Seconds that OpenRLHF and Ray have to end by themselves before they are killed."""
_PR_SET_PDEATHSIG = 1
_MAX_TEMP_PATH = 40
"""Characters: Ray's sockets lie 60 deeper, and a Unix socket's path ends at 107."""


def child_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` plus what every run needs: a Ray of its own, no telemetry, every line of the workers."""
    defaults = {
        "RAY_ADDRESS": "local",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return {**defaults, **base}


class OpenRLHFProcess:
    """One launch; a context manager that leaves no process and no temporary folder."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, keep_fd: int) -> None:
        self._command = [sys.executable, "-m", MODULE, *arguments]
        self._environment = dict(environment)
        self._log = log
        self._keep_fd = keep_fd
        self._mark = uuid.uuid4().hex
        self._pending = ""

    def __enter__(self) -> Self:
        self._temp = _short_temp_dir()
        self._offset = self._log.stat().st_size if self._log.exists() else 0
        environment = {**self._environment, _MARK: self._mark, "RAY_TMPDIR": str(self._temp)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, arguments we built
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._keep_fd,),
                preexec_fn=_end_with_parent,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._temp, ignore_errors=True)

    @property
    def return_code(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def new_lines(self) -> list[str]:
        """Return the complete lines printed since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        self._offset += len(data)
        *lines, self._pending = (self._pending + data.decode("utf-8", errors="replace")).split("\n")
        return lines

    def stop(self) -> None:
        """End OpenRLHF, Ray and its workers: politely at first."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        ours = _marked(self._mark)
        _, alive = psutil.wait_procs(ours, timeout=_STOP_GRACE_S / 3)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=_STOP_GRACE_S)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                found.append(process)
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found


def _end_with_parent() -> None:
    """In the child, before it starts: ask the kernel to end it when the launcher dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _short_temp_dir() -> Path:
    root = tempfile.gettempdir()
    fallback = os.sep + "tmp"
    return Path(tempfile.mkdtemp(prefix="gb-", dir=root if len(root) < _MAX_TEMP_PATH else fallback))
