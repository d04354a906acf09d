"""TRL's reward function: columns, what cannot be scored, what is logged. tests/frameworks/test_trl.py runs TRL."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest

from reward_client import RewardError, RewardUnavailableError
from reward_client.adapters.trl import MAX_UNSCORED_CALLS, Reward, glassbox, reward_function
from reward_service.settings import Settings
from tests.frameworks.service import NanEncoder
from tests.live import serving

PROMPTS = ["a b c", [{"role": "user", "content": "a b c"}]]
COMPLETIONS = ["a b", [{"role": "assistant", "content": "a b"}]]
FEATURES = {"length_incentive", "repetition_penalty", "query_relevance", "reference_relevance"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(default_recipe="rer")) as url:
        yield url


def call(function: Reward, **given: Any) -> tuple[list[float | None], dict[str, list[Any]], dict[str, float]]:
    """The rewards of two completions, and the columns and metrics that were logged."""
    extra: dict[str, list[Any]] = {}
    metrics: dict[str, float] = {}
    given = {
        "prompts": PROMPTS,
        "completions": COMPLETIONS,
        "trainer_state": None,
        "completion_ids": [[1], [1]],
    } | given
    rewards = asyncio.run(function(**given, log_extra=extra.__setitem__, log_metric=metrics.__setitem__))
    return rewards, extra, metrics


def test_text_and_messages_have_the_same_reward_and_log_their_features(url: str) -> None:
    rewards, extra, metrics = call(reward_function(url=url))

    assert rewards[0] == rewards[1]
    assert rewards[0]
    assert extra.keys() == {f"glassbox/{name}" for name in FEATURES | {"error"}}
    assert extra["glassbox/length_incentive"] == [0.02, 0.02]
    assert metrics["glassbox/length_incentive"] == pytest.approx(0.02)
    assert metrics["glassbox/unscored"] == 0


def test_a_completion_that_cannot_be_scored_has_no_reward_and_its_cause_is_logged(url: str) -> None:
    rewards, extra, metrics = call(reward_function(url=url), query_type=["open_ended", "closed_ended"])

    assert rewards[0] is not None
    assert rewards[1] is None
    assert extra["glassbox/error"][0] is None
    assert "reference" in extra["glassbox/error"][1]
    assert metrics["glassbox/unscored"] == 0.5


def test_every_call_logs_the_same_names(url: str) -> None:
    """TRL gathers them from all ranks, name by name: a name that one rank lacks blocks the others."""
    scored = call(reward_function("a", url=url))
    nothing_scored = call(reward_function("a", url=url, deadline_s=9), completions=[None, None])

    assert [log.keys() for log in scored[1:]] == [log.keys() for log in nothing_scored[1:]]
    assert nothing_scored[0] == [None, None]
    assert math.isnan(nothing_scored[2]["a/length_incentive"])


def test_columns_may_have_other_names_and_a_named_column_must_exist(url: str) -> None:
    function = reward_function(url=url, reference_column="answer")

    _, extra, _ = call(function, answer=["a b", None])

    assert [value is None for value in extra["glassbox/reference_relevance"]] == [False, True]
    with pytest.raises(RewardError, match=r"reference_column is 'answer'.*'reference'"):
        call(function, reference=["a b", None])


def test_several_recipes_in_one_run_log_under_names_of_their_own(url: str) -> None:
    rer, li = reward_function(url=url, recipe="rer"), reward_function(url=url, recipe="li")

    assert call(rer)[1].keys().isdisjoint(call(li)[1].keys())
    assert (rer.__name__, li.__name__) == ("glassbox_rer", "glassbox_li")


def test_it_raises_when_the_service_is_away_and_when_nothing_can_be_scored(url: str) -> None:
    with pytest.raises(RewardUnavailableError):
        call(reward_function(url="http://127.0.0.1:9", deadline_s=0.2))
    function = reward_function(url=url, deadline_s=8)
    for _ in range(MAX_UNSCORED_CALLS - 1):
        assert call(function, completions=[None, None])[0] == [None, None]
    with pytest.raises(RewardError, match=rf"no reward in {MAX_UNSCORED_CALLS} batches in a row: response"):
        call(function, completions=[None, None])


def test_it_raises_when_the_names_to_log_are_unknown() -> None:
    """Each rank would log other names, on which TRL's ranks wait for each other."""
    with serving(Settings(default_recipe="rer"), NanEncoder()) as url:
        function = reward_function(url=url, deadline_s=5)
        with pytest.raises(RewardError, match="names of the features"):
            call(function, completions=[None, None])


def test_the_function_that_a_configuration_names_reads_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSBOX_URL", url)
    monkeypatch.setenv("GLASSBOX_RECIPE", "li")

    assert call(glassbox)[0] == [0.02, 0.02]
