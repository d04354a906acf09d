"""Errors of studies."""

from reward_runs.errors import RunError


class StudyError(RunError):
    """A study cannot be planned or run; the message names the file and the field."""
