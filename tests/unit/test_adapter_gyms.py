"""Adapters of verifiers, SkyRL, Atropos and NeMo-Gym without the frameworks: which texts they score."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reward_client import RewardError, RewardRejectedError
from reward_client.adapters.atropos import Glassbox, drop_unscored
from reward_client.adapters.nemo_gym import GlassboxResourcesServer
from reward_client.adapters.samples import Sample
from reward_client.adapters.scorer import Scorer
from reward_client.adapters.skyrl import GlassboxEnv
from reward_client.adapters.verifiers import glassbox
from reward_service.settings import Settings
from tests.frameworks.vf_eval import BY_FUNCTION, BY_URL
from tests.live import serving

SYSTEM, QUESTION = {"role": "system", "content": "be"}, {"role": "user", "content": "a b c"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(default_recipe="rer", api_key="key")) as url:
        yield url


@pytest.fixture(autouse=True)
def settings(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_URL", url)
    monkeypatch.setenv("GLASSBOX_API_KEY", "key")


def direct(*sample: Any) -> float | None:
    with closing(Scorer()) as scorer:
        return scorer.score([Sample(*sample)])[0].reward


# verifiers ----------------------------------------------------------------------------------------------------


def rollout(row: dict[str, Any], reply: str = "a b") -> tuple[float, dict[str, float]]:
    """The reward and the metrics of a rollout."""
    metrics: dict[str, float] = {}
    task = SimpleNamespace(model_dump=lambda mode: row)
    trace = SimpleNamespace(last_reply=reply, record_metrics=metrics.update)
    return asyncio.run(glassbox(task, trace)), metrics


@pytest.mark.parametrize(
    ("row", "sample"),
    [
        ({"prompt": "a b c"}, ("a b c", "a b")),
        ({"prompt": [QUESTION], "system_prompt": "be"}, ([SYSTEM, QUESTION], "a b")),
        ({"prompt": "a b c", "system_prompt": "be"}, ([SYSTEM, QUESTION], "a b")),
        ({"prompt": "a b c", "answer": "d e"}, ("a b c", "a b", "d e")),
        ({"prompt": "a b c", "answer": "d e", "reference": "a"}, ("a b c", "a b", "a")),
        ({"prompt": "a b c", "answer": "d e", "reference": None}, ("a b c", "a b", "d e")),
        (
            {"prompt": "a b c", "answer": "d e", "query_type": "open_ended"},
            ("a b c", "a b", "d e", "open_ended"),
        ),
    ],
)
def test_a_task_has_prompt_reference_and_query_type(row: dict[str, Any], sample: tuple[Any, ...]) -> None:
    reward, metrics = rollout(row)

    assert reward == direct(*sample)
    assert ("glassbox/reference_relevance" in metrics) == (len(sample) == 3)


def test_fields_of_a_task_can_have_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_PROMPT_COLUMN", "question")
    monkeypatch.setenv("GLASSBOX_REFERENCE_COLUMN", "truth")

    assert rollout({"question": "a b c", "truth": "d e"})[0] == direct("a b c", "a b", "d e")


def test_a_rollout_without_a_reward_raises_and_logs_nothing() -> None:
    with pytest.raises(RewardError, match="prompt"):
        rollout({"prompt": None})


def test_the_page_has_the_configuration_that_the_contract_test_runs() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/frameworks/verifiers.md").read_text(encoding="utf-8")
    own_taskset = 'id = "rows_v1"'
    lines = [line for line in (BY_FUNCTION + BY_URL).splitlines() if line not in ("", own_taskset)]

    assert len(lines) == 8
    assert [line for line in lines if f"    {line}\n" not in page] == []


# SkyRL --------------------------------------------------------------------------------------------------------


def test_the_reference_of_an_episode_is_a_column_or_the_ground_truth() -> None:
    for extras in (
        {"reward_spec": {"ground_truth": "d e"}},
        {"reward_spec": {"ground_truth": "x"}, "reference": "d e"},
        {"reward_spec": {"ground_truth": "d e"}, "reference": None},
    ):
        env = GlassboxEnv(extras=extras)
        env.init([QUESTION])

        assert env.step("a b")["reward"] == direct("a b c", "a b", "d e")


def test_an_unknown_setting_of_an_environment_is_an_error() -> None:
    with pytest.raises(RewardError, match="recipes"):
        GlassboxEnv({"recipes": "rer"})


# Atropos ------------------------------------------------------------------------------------------------------


class Registered(Glassbox):
    """The base class of Atropos takes a weight and a name."""

    def __init__(self, **settings: Any) -> None:
        self._scorer = Scorer(**settings)


@pytest.mark.parametrize(
    "completion",
    ["a b", {"role": "assistant", "content": "a b"}, {"message": {"role": "assistant", "content": "a b"}}],
)
def test_a_completion_has_any_form_of_atropos(completion: Any) -> None:
    assert Registered().compute([completion], prompts=["a b c"]) == [direct("a b c", "a b")]


def test_a_completion_without_a_reward_is_nan() -> None:
    assert [math.isnan(score) for score in Registered().compute(["a", "b"], prompts=["a", ""])] == [False, True]
    assert all(map(math.isnan, Registered().compute(["a"], prompts=["a", "b"])))
    assert all(map(math.isnan, Registered(api_key="wrong").compute(["a"], prompts=["a"])))


def test_only_groups_with_rewards_are_kept() -> None:
    good, bad = {"scores": [1.0, 2.0]}, {"scores": [1.0, math.nan]}

    assert drop_unscored([good, bad, None]) == [good]
    assert drop_unscored([bad]) is drop_unscored(bad) is drop_unscored(None) is None
    assert drop_unscored(good) is good


# NeMo-Gym -----------------------------------------------------------------------------------------------------


class Body:
    """A request to verify, as Gym parses it."""

    def __init__(self, output: list[dict[str, Any]], prompt: Any = "a b c", **columns: Any) -> None:
        self._fields = {"responses_create_params": prompt, "response": {"output": output}, **columns}
        if not isinstance(prompt, dict):
            self._fields["responses_create_params"] = {"input": prompt}

    def model_dump(self, mode: str) -> dict[str, Any]:
        return dict(self._fields)


def message(*texts: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text} for text in texts]}


def verified(body: Any, **settings: Any) -> dict[str, Any]:
    server = GlassboxResourcesServer.model_construct(config=SimpleNamespace(glassbox=settings))
    reply: dict[str, Any] = asyncio.run(server.verify(body)).model_dump()
    return reply


@pytest.mark.parametrize(
    ("body", "sample"),
    [
        (Body([message("a b")]), ("a b c", "a b")),
        (Body([message("x"), {"type": "function_call"}, message("a", "b")]), ("a b c", "a\nb")),
        (Body([{"type": "reasoning"}]), ("a b c", "")),
        (Body([message("a b")], {"input": [QUESTION], "instructions": "be"}), ([SYSTEM, QUESTION], "a b")),
        (Body([message("a b")], [{"type": "function_call"}, QUESTION]), ([QUESTION], "a b")),
        (Body([message("a b")], expected_answer="d e"), ("a b c", "a b", "d e")),
        (Body([message("a b")], expected_answer="x", reference="d e"), ("a b c", "a b", "d e")),
    ],
)
def test_the_last_message_is_scored_with_the_reference_of_the_row(body: Body, sample: tuple[Any, ...]) -> None:
    assert verified(body)["reward"] == direct(*sample)


def test_a_release_that_cannot_mask_gets_an_error() -> None:
    with pytest.raises(RewardError, match="prompt"):
        verified(Body([message("a b")], ""))


def test_a_wrong_key_is_an_error() -> None:
    with pytest.raises(RewardRejectedError, match="401"):
        verified(Body([message("a b")]), api_key="wrong")
