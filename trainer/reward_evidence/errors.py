"""The error of an evaluation."""

from __future__ import annotations

from reward_runs.errors import RunError


class EvaluationError(RunError):
    """An evaluation cannot be done; the message states what to do next."""
