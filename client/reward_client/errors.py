"""Errors of the client.

    RewardError                     base class: the message has the cause and the next step
    ├── RewardUnavailableError      no response, or only retryable ones, until retry budget or deadline were spent
    ├── RewardRejectedError         the service rejected the request (4xx), which a retry cannot change
    └── UnknownRecipeError          the service has no recipe of that name

Every failure raises one of these; it never becomes a reward. Errors of `score` list the items without a reward.
"""

from typing import Any, NamedTuple, Self

from pydantic import ValidationError

from reward_client.wire import FieldError, Problem, ScoreReply, error_message, error_path


class Unscored(NamedTuple):
    """An item without a reward."""

    item: int
    """Index in the list passed to `score`."""
    id: str | None


class RewardError(Exception):
    """A request to the reward service failed."""

    unscored: tuple[Unscored, ...] = ()
    """Items without a reward, in order; empty if the request was not for rewards."""
    partial: ScoreReply | None = None
    """Rewards of the items before the first unscored one, if a later part of a large batch failed."""
    scored: Any = None
    """Of `reward_client.tables`: the table with the rewards received before; the other rows have an `error`."""

    def __str__(self) -> str:
        message = super().__str__()
        if self.partial is None or not self.unscored:
            return message
        first = self.unscored[0]
        name = f"{first.item} (id {first.id!r})" if first.id is not None else str(first.item)
        return f"{message} [{len(self.unscored)} items are unscored, from item {name} on]"


class RewardUnavailableError(RewardError):
    """The service did not respond within the retry budget or deadline.

    `__cause__` is the error of the connection, or None if the service, or one of the replicas, did answer.
    """

    causes: tuple[str, ...] = ()
    """The last failure of each URL, with the URL if there are several."""


class RewardRejectedError(RewardError):
    """The service rejected the request; `problem` is its explanation."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(describe_problem(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[Self], tuple[Problem], dict[str, Any]]:
        """Pickle with the problem as argument, so that the error can cross process boundaries."""
        return type(self), (self.problem,), self.__dict__

    @property
    def errors(self) -> list[FieldError]:
        """The errors in the request, each with item and field."""
        return self.problem.errors

    @property
    def errors_by_item(self) -> dict[int, FieldError]:
        """The last error of each item that the errors name, by the item's index in the request."""
        return {error.item: error for error in self.errors if error.item is not None}


class UnknownRecipeError(RewardError):
    """The service has no recipe `name`; `hint` is the nearest one that it has, or all."""

    def __init__(self, name: str, hint: str) -> None:
        super().__init__(f"the service has no recipe {name!r}; {hint}")
        self.name, self.hint = name, hint

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.name, self.hint)


def validation_errors(exc: ValidationError) -> list[str]:
    """`field: message` of each error that pydantic found."""
    found = []
    for error in exc.errors():
        field = ".".join(map(str, error_path(error)))
        found.append(": ".join([*filter(None, [field]), error_message(error)]))
    return found


def read_problem(status: int, reason: str, body: bytes) -> Problem:
    """The problem in the body of a response; one with the beginning of the body if it contains none."""
    try:
        return Problem.model_validate_json(body)
    except ValidationError:
        text = body[:2000].decode("utf-8", errors="replace")[:500]
        return Problem(title=reason or "error", status=status, detail=text)


def describe_problem(problem: Problem) -> str:
    """Status, title, detail and the first errors, in one line."""
    parts = [f"{problem.status} {problem.title}: {problem.detail}"]
    parts += [f"{error.field}: {error.message}" for error in problem.errors[:5]]
    if len(problem.errors) > 5:
        parts.append(f"and {len(problem.errors) - 5} more")
    return "; ".join(parts)
