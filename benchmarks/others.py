"""Other people's servers: started as child processes, and what stands in the table when one cannot run.

child(command, ready, log) ──▶ runs, and answers at `ready` ──▶ measured ──▶ Figure
                           └─▶ Unavailable, with its own words ───────────▶ NotMeasured: a reason, no number
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

__all__ = ["NotMeasured", "Unavailable", "child"]

START_S = 180
STOP_S = 20
_LAST_WORDS = 300
"""Characters of a log that a reason quotes."""


class Unavailable(Exception):  # noqa: N818 (the state of the other side, not a fault of ours)
    """A server that a ratio needs cannot be installed or started here; the message says why."""


@dataclass(frozen=True)
class NotMeasured:
    """A line of the results without a number."""

    name: str
    target: str
    reason: str

    @property
    def row(self) -> str:
        """As a row of the same Markdown table as `Figure.row`."""
        reason = " ".join(self.reason.split()).replace("|", "/")
        return f"| {self.name} | {self.target} | *not measured* | – | {reason} |"


@contextmanager
def child(
    command: Sequence[str], ready: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server as a child process, from when `ready` answers 200 until the block is left.

    Raises:
        Unavailable: it ended, or did not answer within 180 s; with the end of its log.
    """
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment or os.environ)
        )
        try:
            _wait(process, ready, log)
            yield
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _answers(ready):
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace").strip()[-_LAST_WORDS:]
            raise Unavailable(f"it did not start (exit status {process.poll()}): {words}")
        time.sleep(0.25)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).is_success
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
