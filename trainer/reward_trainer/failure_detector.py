"""Decides when a run must stop because it gets no rewards. Pure: no clock, process or network.

    log line        ──▶ FailureDetector.observe_line     ─┐
    service probe   ──▶ FailureDetector.observe_service  ─┴─▶ None, or the cause to stop with

OpenRLHF requests a reward five times and ends later with the misleading message `reward_model_group is required`.
Only its INFO lines contain the cause, so they are parsed, and the service is probed as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from reward_trainer.openrlhf.log_parser import failed_attempt, failed_reward

MAX_UNAVAILABLE_S = 40.0
"""Seconds that the service may be unavailable before the run is stopped: enough for a restart, under a minute."""


@dataclass
class FailureDetector:
    """State of the rewards of one run."""

    _last_attempt: str | None = None
    """Cause of the latest failed attempt at a reward."""
    _unavailable_since_s: float | None = None

    def observe_line(self, line: str) -> str | None:
        """Process a log line; return the cause when the run must stop."""
        self._last_attempt = failed_attempt(line) or self._last_attempt
        failure = failed_reward(line)
        return None if failure is None else self._last_attempt or failure

    def observe_service(self, cause: str | None, now_s: float) -> str | None:
        """Process a probe (`cause` None: ready); return the cause when the run must stop."""
        if cause is None:
            self._unavailable_since_s = None
            return None
        if self._unavailable_since_s is None:
            self._unavailable_since_s = now_s
        unavailable_s = now_s - self._unavailable_since_s
        return None if unavailable_s < MAX_UNAVAILABLE_S else f"not ready for {unavailable_s:.0f} s: {cause}"
