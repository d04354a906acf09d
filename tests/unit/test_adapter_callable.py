"""Reward functions for loops of one's own: rewards and features in order, and what cannot be scored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from reward_client import RewardError, RewardUnavailableError
from reward_client.adapters.callable import async_reward_function, reward_function
from reward_service.settings import Settings
from tests.live import serving

PROMPTS = ["a b c", [{"role": "user", "content": "a b c"}], "a b c"]
RESPONSES = ["a b", "a b", "c d e"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(max_text_chars=1000, default_recipe="rer")) as url:
        yield url


def test_rewards_and_features_are_in_the_order_of_the_batch_sync_and_async(url: str) -> None:
    references = [None, None, "c d e"]

    found = reward_function(url=url)(PROMPTS, RESPONSES, references)

    assert found == asyncio.run(async_reward_function(url=url)(PROMPTS, RESPONSES, references))
    assert found.rewards[0] == found.rewards[1] != found.rewards[2]
    assert "query_relevance" in found.features[0]
    assert "reference_relevance" in found.features[2]
    assert found.errors == [None, None, None]


def test_a_response_that_cannot_be_scored_raises_or_is_skipped_but_has_no_number(url: str) -> None:
    responses = ["a b", "x" * 1001, "c d e"]

    with pytest.raises(RewardError, match=r"1 of 3 samples cannot be scored: sample 1: .*response"):
        reward_function(url=url)(PROMPTS, responses)
    found = reward_function(url=url, skip=True)(PROMPTS, responses)

    assert [reward is None for reward in found.rewards] == [False, True, False]
    assert found.features[1] == {}
    assert "response" in str(found.errors[1])


def test_a_service_that_is_away_raises_with_skip_too() -> None:
    with pytest.raises(RewardUnavailableError):
        reward_function(url="http://127.0.0.1:9", deadline_s=0.2, skip=True)(["p"], ["r"])


@pytest.mark.parametrize(
    "batch", [(["p"], ["r", "r"]), ("p", "r"), (["p"], ["r"], ["a", "b"]), (["p"], ["r"], None, ["x", "y"])]
)
def test_lists_of_different_lengths_are_an_error(batch: tuple[list[str], ...]) -> None:
    with pytest.raises(ValueError, match=r"same length|the batch has 1 rows"):
        reward_function()(*batch)
