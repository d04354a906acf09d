"""What can go wrong between a caller and the reward service.

    RewardError                     base: the message says the cause and the next step
    ├── RewardUnavailableError      nobody answered, or the service said "not now", until the budget was spent
    └── RewardRejectedError         the service looked at the request and refused it (4xx); retrying cannot help

A failure is always one of these, never a number.
"""

from __future__ import annotations

from reward_client.wire import FieldError, Problem

__all__ = ["RewardError", "RewardRejectedError", "RewardUnavailableError"]


class RewardError(Exception):
    """The rewards asked for could not be had."""


class RewardUnavailableError(RewardError):
    """The service did not answer within the retry budget."""


class RewardRejectedError(RewardError):
    """The service refused the request; `problem` is its own account of why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(_sentence(problem))
        self.problem = problem

    @property
    def errors(self) -> list[FieldError]:
        """Each thing wrong with the request, with item and field."""
        return self.problem.errors


def _sentence(problem: Problem) -> str:
    parts = [f"{problem.status} {problem.title}: {problem.detail}"]
    parts += [f"{error.field}: {error.message}" for error in problem.errors[:5]]
    if len(problem.errors) > 5:
        parts.append(f"and {len(problem.errors) - 5} more")
    return "; ".join(parts)
