"""What can go wrong between a caller and the reward service.

    RewardError                     base: the message says the cause and the next step
    ├── RewardUnavailableError      nobody answered, or the service said "not now", until the budget was spent
    └── RewardRejectedError         the service looked at the request and refused it (4xx); retrying cannot help

A failure is always one of these, never a number. Those that `score` raises name the items without a reward.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from reward_client.wire import FieldError, Problem, ScoreReply

__all__ = ["RewardError", "RewardRejectedError", "RewardUnavailableError", "Unscored"]


class Unscored(NamedTuple):
    """An item that has no reward."""

    item: int
    """Index in the list that was given to `score`."""
    id: str | None


class RewardError(Exception):
    """The rewards asked for could not be had."""

    unscored: tuple[Unscored, ...] = ()
    """Items without a reward, in order; empty when no rewards were asked for."""
    partial: ScoreReply | None = None
    """Rewards of the items before the first unscored one, when a large batch failed on its way."""

    def __str__(self) -> str:
        said = super().__str__()
        if self.partial is None or not self.unscored:
            return said
        first = self.unscored[0]
        name = f"{first.item} (id {first.id!r})" if first.id is not None else str(first.item)
        return f"{said} [{len(self.unscored)} items are unscored, from item {name} on]"


class RewardUnavailableError(RewardError):
    """The service did not answer within budget or deadline."""


class RewardRejectedError(RewardError):
    """The service refused the request; `problem` is its own account of why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(_sentence(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[Self], tuple[Problem], dict[str, Any]]:
        """Made of its problem, not of the sentence about it: errors cross process boundaries pickled."""
        return type(self), (self.problem,), self.__dict__

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
