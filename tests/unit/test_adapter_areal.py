"""The adapters of AReaL and Tunix without the frameworks: special tokens, prompts, deadlines, failures."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import pytest

from reward_client import Item, QueryType, RewardClient, RewardError, RewardUnavailableError
from reward_client.adapters import areal, tunix
from reward_client.adapters.samples import without_end_tokens
from reward_service.protocols.chat_formats import FORMATS
from reward_service.settings import Settings
from tests.live import serving

ITEM = Item(prompt="a b c", response="a b", reference="a c", query_type=QueryType.CLOSED_ENDED)
MESSAGES = [{"role": "user", "content": "a b c"}]
RENDERED = "<|im_start|>user\na b c<|im_end|>\n<|im_start|>assistant\n"
ENDS = sorted(
    {
        end
        for one in FORMATS
        for end in (*one.footers, *one.assistant_footers, *one.ends)
        if end not in one.continues and not end.startswith("[")  # Mistral's markers of user and system turns
    }
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(default_recipe="rer")) as url:
        yield url


@pytest.fixture(scope="module")
def expected(url: str) -> float:
    with RewardClient(url) as client:
        reward = client.score([ITEM]).rewards[0]
    assert reward is not None
    return reward


@pytest.fixture(autouse=True)
def _environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_URL", url)


# AReaL --------------------------------------------------------------------------------------------------------


def test_areal_scores_the_messages_and_the_response_without_its_end_tokens(expected: float) -> None:
    reward = areal.glassbox(RENDERED, "a b<|im_end|>", [1], [2], messages=MESSAGES, reference="a c")

    assert reward == expected


@pytest.mark.parametrize("end", ENDS)
def test_end_tokens_of_every_known_chat_format_are_removed(end: str) -> None:
    assert without_end_tokens(f"<answer>4</answer> {end}") == "<answer>4</answer> "
    assert without_end_tokens(f"a [1]{end}\n{end}") == "a [1]"
    assert without_end_tokens(f"{end} is a token") == f"{end} is a token"


def test_a_rendered_prompt_without_messages_is_an_error_that_names_the_setting(
    expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RewardError, match=r"no column 'messages'.*GLASSBOX_PROMPT_COLUMN"):
        areal.glassbox(RENDERED, "a b", [1], [2], reference="a c")
    monkeypatch.setenv("GLASSBOX_PROMPT_COLUMN", "question")

    assert areal.glassbox(RENDERED, "a b", [1], [2], question="a b c", reference="a c") == expected


def test_a_prompt_that_no_template_was_applied_to_is_scored(expected: float) -> None:
    assert areal.glassbox("a b c", "a b", [1], [2], reference="a c") == expected


def test_areal_gets_an_answer_before_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert areal.ArealSettings.load({}).deadline_s == 8
    monkeypatch.setenv("GLASSBOX_DEADLINE_S", "15")
    with pytest.raises(RewardError, match="GLASSBOX_DEADLINE_S"):
        areal.glassbox("a b c", "a b")


# Tunix --------------------------------------------------------------------------------------------------------


def test_tunix_finds_one_public_function() -> None:
    defined = inspect.getmembers(
        tunix, lambda member: inspect.isfunction(member) and member.__module__ == tunix.__name__
    )

    assert [name for name, _ in defined if not name.startswith("_")] == ["glassbox"]


def test_tunix_scores_a_batch_with_its_columns(expected: float) -> None:
    prompts = np.array(["a b c", "<start_of_turn>user\na b c<end_of_turn>"])
    references = np.array(["a c", "a c"], object)

    assert tunix.glassbox(prompts[:1], ["a b<|im_end|>"], reference=references[:1])[0] == expected
    assert tunix.glassbox(prompts, ["a b"] * 2, prompt=["a b c"] * 2, reference=references) == [expected] * 2


def test_a_prompt_column_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_PROMPT_COLUMN", "question")

    with pytest.raises(RewardError, match="prompt_column is 'question', and the batch has no such column"):
        tunix.glassbox(["a b c"], ["a b"], prompt=["a b c"])


def test_an_absent_service_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GLASSBOX_DEADLINE_S", "0.2")

    with pytest.raises(RewardUnavailableError):
        areal.glassbox("a b c", "a b")
    with pytest.raises(RewardUnavailableError):
        tunix.glassbox(["a b c"], ["a b"])


def test_a_sample_without_a_reward_raises() -> None:
    with pytest.raises(RewardError, match="reference"):
        areal.glassbox("a b c", "a b", query_type="closed_ended")
    with pytest.raises(RewardError, match="sample 1: reference"):
        tunix.glassbox(["a b c"] * 2, ["a b"] * 2, query_type=["open_ended", "closed_ended"])
