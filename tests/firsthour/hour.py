"""Steps of a first hour: a command of the shell, and what must be seen.

    Step("the version", "glassbox --version", sees=["glassbox "])

Each step runs in one shared folder with the service's URL in GLASSBOX_URL, as after `export GLASSBOX_URL=…`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import ROOT
from tests.training_lock import one_training
from tools.processes import stop, wait_until

HANG_S = 400.0
"""Seconds after which a step is considered to hang."""
SLACK_S = 30.0
"""Seconds that a loaded machine may take longer than a limit of the product; starting Python is part of them."""
NO_SERVICE = "http://127.0.0.1:9"
"""A port on which nothing listens."""


@dataclass(frozen=True)
class Step:
    """One command, and what must be seen."""

    name: str
    command: str
    sees: Sequence[str] = ()
    """Texts on the terminal."""
    status: int = 0
    writes: Sequence[str] = ()
    """Files that exist afterwards and are not empty."""
    not_written: Sequence[str] = ()
    trains: bool = False
    """Whether it starts OpenRLHF, of which one at a time fits this machine."""
    within_s: float | None = None
    """Limit of the product; SLACK_S is added."""
    check: Callable[[Path, str], object] = field(default=lambda folder, seen: None)
    """Further assertions about the folder and the terminal."""


@dataclass
class Terminal:
    """Runs steps in a folder, and prints what they took."""

    folder: Path
    url: str = NO_SERVICE

    def run(self, step: Step) -> None:
        """Run the step. Raises AssertionError with the whole terminal."""
        with one_training() if step.trains else nullcontext():
            started = time.monotonic()
            status, printed = self._execute(step.command)
            took_s = time.monotonic() - started
        sys.stdout.write(f"{took_s:6.1f} s  {step.name}: {step.command}\n")
        terminal = f"$ {step.command}\n{printed}"
        assert status == step.status, f"status {status} instead of {step.status}\n{terminal}"
        assert "Traceback" not in printed, terminal
        for text in step.sees:
            assert text in printed, f"{text!r} is not on the terminal\n{terminal}"
        for name in step.writes:
            assert (self.folder / name).is_file(), f"{name} was not written\n{terminal}"
            assert (self.folder / name).stat().st_size > 0, f"{name} is empty\n{terminal}"
        for name in step.not_written:
            assert not (self.folder / name).exists(), f"{name} was written\n{terminal}"
        if step.within_s is not None:
            assert took_s < step.within_s + SLACK_S, f"it took {took_s:.1f} s\n{terminal}"
        step.check(self.folder, printed)

    def _execute(self, command: str) -> tuple[int, str]:
        """Status and output. Ends everything that the command has started when it hangs."""
        with subprocess.Popen(
            ["/bin/bash", "-c", command],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                printed, _ = process.communicate(timeout=HANG_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            return process.returncode, printed

    def environment(self) -> dict[str, str]:
        """The variables of the user's shell, after `source .venv/bin/activate`."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **os.environ,
            "PATH": path,
            "GLASSBOX_URL": self.url,
            "REPOSITORY": str(ROOT),
            "HF_HUB_OFFLINE": "1",
        }


@contextmanager
def service(folder: Path, *options: str) -> Iterator[str]:
    """`glassbox serve` with the embedded models, its terminal in service.log; yields the URL."""
    log = folder / "service.log"
    command = [str(Path(sys.executable).parent / "glassbox"), "serve", "--port", "0", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
        try:
            wait_until(lambda: _ready(log) is not None, process, log)
            yield str(_ready(log))
        finally:
            stop(process)


def _ready(log: Path) -> str | None:
    """The URL that the service says it is ready at."""
    found = re.search(r" ready: (http://\S+)$", log.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None
