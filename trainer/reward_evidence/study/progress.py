"""Time that a study still needs, from the runs that are finished. Pure."""

from collections.abc import Sequence
from math import ceil

from reward_evidence.study.state import RunState


def remaining_s(states: Sequence[RunState], jobs: int) -> float | None:
    """Seconds until the last run ends, `jobs` at a time; None before the first run is finished."""
    finished = [state.duration_s for state in states if state.status == "finished" and state.duration_s]
    left = sum(state.status in ("waiting", "running", "stopped") for state in states)
    if not finished:
        return None
    return ceil(left / jobs) * sum(finished) / len(finished)
