"""OpenRLHF as a child process: start it, read its output, and stop it with all its descendants.

    enter       ── new session, log file, private Ray ──▶ python -m openrlhf.cli.train_ppo_ray …
    new_lines() ── reads the log file
    stop()      ── SIGTERM, a grace period, then SIGKILL for every process with this launch's identifier

Ray detaches its daemons, so a process group does not contain all of them; they inherit the identifier as an
environment variable. The kernel terminates the child when the launcher dies, and Ray ends with its driver.
"""

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

from reward_client.writing import writing

MODULE = "openrlhf.cli.train_ppo_ray"
_LAUNCH_VARIABLE = "GLASSBOX_LAUNCH"
_STOP_GRACE_S = 15.0
"""Seconds between SIGTERM and SIGKILL for OpenRLHF and Ray."""
_PR_SET_PDEATHSIG = 1
_MAX_TEMP_PATH = 40
"""Characters. Ray adds 60 for its sockets, and the path of a Unix socket has at most 107."""


class OpenRLHFProcess:
    """One launch, as a context manager; on exit, all processes and the temporary folder are removed."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, keep_fd: int) -> None:
        self._command = [sys.executable, "-m", MODULE, *arguments]
        self._environment = dict(environment)
        self._log = log
        self._keep_fd = keep_fd
        self._launch_id = uuid.uuid4().hex
        self._pending = ""

    def __enter__(self) -> Self:
        self._temp = _short_temp_dir()
        self._offset = self._log.stat().st_size if self._log.exists() else 0
        environment = {**self._environment, _LAUNCH_VARIABLE: self._launch_id, "RAY_TMPDIR": str(self._temp)}
        with writing(self._log):
            opened = self._log.open("ab")
        with opened as log:
            self._process = subprocess.Popen(  # noqa: S603 - our interpreter, arguments that we built
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._keep_fd,),
                preexec_fn=terminate_with_parent,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._temp, ignore_errors=True)

    @property
    def return_code(self) -> int | None:
        """Exit status; None while the process runs."""
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
        """Stop OpenRLHF, Ray and its workers: SIGTERM first, SIGKILL after the grace period."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        ours = _processes_of(self._launch_id)
        _, alive = psutil.wait_procs(ours, timeout=_STOP_GRACE_S / 3)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=_STOP_GRACE_S)


def _processes_of(launch_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_LAUNCH_VARIABLE) == launch_id:
                found.append(process)
        except psutil.Error:  # has ended, or belongs to another user
            continue
    return found


def terminate_with_parent() -> None:
    """In the child, before it starts: let the kernel send SIGTERM when the launcher dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _short_temp_dir() -> Path:
    root = tempfile.gettempdir()
    folder = root if len(root) < _MAX_TEMP_PATH else os.sep + "tmp"
    with writing(Path(folder)):
        return Path(tempfile.mkdtemp(prefix="gb-", dir=folder))
