"""Reward functions for a training loop of one's own: lists in, rewards and features out.

    reward = reward_function(url="http://127.0.0.1:8000", recipe="glassbox")
    found = reward(prompts, responses, references)          found.rewards, found.features

`async_reward_function` makes the same for an event loop. Settings not given come from the environment.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from reward_client.adapters.samples import Sample, column
from reward_client.adapters.scorer import Scored, Scorer
from reward_client.adapters.scorer import rewards as all_rewards


class Rewards(NamedTuple):
    """The rewards of a batch, in its order."""

    rewards: list[float | None]
    """None only with `skip=True`, for a response that cannot be scored."""
    features: list[dict[str, float]]
    """Of each response, the features that apply to it."""
    errors: list[str | None]
    """Why a response has no reward."""


def reward_function(*, skip: bool = False, **settings: Any) -> Callable[..., Rewards]:
    """A function of `prompts, responses, references=None, query_types=None`. Raises RewardError.

    Args:
        skip: give a response that cannot be scored the reward None, instead of raising for the batch. Leave such a
            response out of the loss; it has no number.
        settings: those of `AdapterSettings`.
    """
    scorer = Scorer(**settings)

    def reward(
        prompts: Sequence[Any], responses: Sequence[Any], references: Any = None, query_types: Any = None
    ) -> Rewards:
        return _rewards(scorer.score(_samples(prompts, responses, references, query_types)), skip=skip)

    return reward


def async_reward_function(*, skip: bool = False, **settings: Any) -> Callable[..., Coroutine[Any, Any, Rewards]]:
    """As `reward_function`, for an event loop."""
    scorer = Scorer(**settings)

    async def reward(
        prompts: Sequence[Any], responses: Sequence[Any], references: Any = None, query_types: Any = None
    ) -> Rewards:
        return _rewards(await scorer.score_async(_samples(prompts, responses, references, query_types)), skip=skip)

    return reward


def _samples(prompts: Sequence[Any], responses: Sequence[Any], references: Any, query_types: Any) -> list[Sample]:
    """One sample for each response. Raises ValueError when a list has another length."""
    n_rows = len(responses)
    if len(prompts) != n_rows or isinstance(prompts, str) or isinstance(responses, str):
        raise ValueError("prompts and responses must be two lists of the same length")
    columns = column(references, n_rows, "references"), column(query_types, n_rows, "query_types")
    return [Sample(*row) for row in zip(prompts, responses, *columns, strict=True)]


def _rewards(scored: Sequence[Scored], *, skip: bool) -> Rewards:
    if not skip:
        all_rewards(scored)
    return Rewards(
        [one.reward for one in scored],
        [one.applicable_features() for one in scored],
        [one.error for one in scored],
    )
