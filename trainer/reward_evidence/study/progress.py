"""Time that a study still needs, from the runs that have ended. Pure."""

from collections.abc import Sequence
from math import ceil

from reward_evidence.study.state import RunState


def remaining_s(states: Sequence[RunState], jobs: int) -> float | None:
    """Seconds until the last run ends, `jobs` at a time; None before the first run has ended."""
    ended = [s.duration_s for s in states if s.status in ("finished", "stopped by rule") and s.duration_s]
    left = sum(state.status in ("waiting", "running", "stopped") for state in states)
    if not ended:
        return None
    return ceil(left / jobs) * sum(ended) / len(ended)
