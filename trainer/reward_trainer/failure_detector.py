"""What the lines of a run and the state of the service mean: a pure decision, no clock, process or network.

    line of the log ─┐
    service probe   ─┼─▶ FailureDetector ─▶ stop? with which cause      a step?      which phase?
    time            ─┘

OpenRLHF tries a reward five times and then ends, later, with a misleading `reward_model_group is required`.
The cause stands in INFO lines only, so they are watched for, and the service is asked as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["GIVE_UP_S", "FailureDetector", "last_error", "phase_of"]

GIVE_UP_S = 40.0
"""Seconds without a ready service after which a run is stopped: time to restart it, and still within a minute."""

_TRY_FAILED = re.compile(r"(?:Request error|Unexpected error), please check: (?P<cause>.*)")
_REWARD_FAILED = re.compile(r"Failed to fetch reward from remote RM: (?P<cause>.*)")
_EXCEPTION = re.compile(
    r"^(?:\x1b\[\d+m)?(?:\(.*?pid=.*?\)(?:\x1b\[0m)?)?\s*(?P<error>[\w.]*(?:Error|Exception)\b.*)"
)

_PHASES = (
    ("Started a local Ray instance", "Ray is up; loading the models (about a minute on two cores)"),
    ("Episode [1/1]:   0%", "models are loaded; sampling the first responses"),
    ("Starting experience making", "rewards are in; computing log-probabilities"),
    ("Train epoch [1/", "training"),
)


@dataclass
class FailureDetector:
    """What is known of the rewards of a run."""

    last_cause: str | None = None
    """Why the latest attempt at a reward failed."""
    _down_since_s: float | None = None
    _down_cause: str = ""

    def line(self, text: str) -> str | None:
        """Read a line of the log; return why the run must stop, or None."""
        if found := _TRY_FAILED.search(text):
            self.last_cause = found["cause"].strip()
        if found := _REWARD_FAILED.search(text):
            return self.last_cause or found["cause"].strip()
        return None

    def service(self, cause: str | None, now_s: float) -> str | None:
        """Note that the service is ready (cause None) or why not; return why the run must stop, or None."""
        if cause is None:
            self._down_since_s = None
            return None
        self._down_cause = cause
        if self._down_since_s is None:
            self._down_since_s = now_s
        if now_s - self._down_since_s < GIVE_UP_S:
            return None
        return f"not ready for {now_s - self._down_since_s:.0f} s: {self._down_cause}"


def phase_of(line: str) -> str | None:
    """Return what a line says about where the run is, in plain words."""
    return next((words for mark, words in _PHASES if mark in line), None)


def last_error(lines: list[str]) -> str | None:
    """Return the last line that names a Python exception."""
    found = (match["error"].strip() for line in reversed(lines) if (match := _EXCEPTION.match(line)))
    return next(found, None)
