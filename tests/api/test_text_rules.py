"""Text as it arrives, through the service: what counts as the answer, with which flags, by recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LengthGold, LetterEncoder

DEFAULTS = """
open_ended: [length_incentive, repetition_penalty, query_relevance]
closed_ended: [reference_relevance]
"""
"""A recipe of an operator: all text rules have their defaults."""


@pytest.fixture
def mine(tmp_path: Path, encoder: LetterEncoder, gold: LengthGold) -> Iterator[TestClient]:
    (tmp_path / "mine.yaml").write_text(DEFAULTS)
    settings = Settings(recipes_dir=tmp_path, default_recipe="mine")
    app = create_app(settings, encoder_loader=lambda _: encoder, gold_loader=lambda _: gold)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        wait_until_loaded(client)
        gold.seen.clear()
        yield client


def score(service: TestClient, response: str, prompt: str = "a b c?", **body: Any) -> dict[str, Any]:
    item = {"prompt": prompt, "response": response, **body.pop("item", {})}
    reply = service.post("/score", json={"items": [item], **body})
    assert reply.status_code == 200, reply.text
    result: dict[str, Any] = reply.json()["results"][0]
    return result


def closed(service: TestClient, reference: str, response: str, **body: Any) -> dict[str, Any]:
    return score(service, response, item={"reference": reference, "query_type": "closed_ended"}, **body)


def test_reasoning_earns_nothing_and_the_gold_model_does_not_see_it(mine: TestClient, gold: LengthGold) -> None:
    plain = score(mine, "a b c d", gold=True)
    reasoned = score(mine, "<think>a b c, a b c</think>a b c d", gold=True)

    assert reasoned == plain | {"flags": ["reasoning"]}
    assert gold.seen == ["a b c d", "a b c d"]


def test_reasoning_in_openrlhfs_protocol_is_that_of_score(mine: TestClient) -> None:
    prompt = "<|im_start|>user\na b c?<|im_end|>\n<|im_start|>assistant\n"
    responses = ["a b c d", "<think>a b c</think>\na b c d", "<think>a b c, on and on"]
    query = [f"{prompt}{response}<|im_end|>" for response in responses]
    opened = [f"{prompt}<think>\na b c</think>\na b c d<|im_end|>", f"{prompt}<think>\na b c d<|im_end|>"]
    body = {"query": query + opened, "prompts": [prompt] * 3 + [f"{prompt}<think>\n"] * 2}

    reply = mine.post("/get_reward", json=body).json()

    plain = score(mine, "a b c d")["reward"]
    assert reply["rewards"] == pytest.approx([plain, plain, 0, plain, 0])
    assert reply["flags"] == [
        [],
        ["reasoning"],
        ["reasoning", "unfinished_reasoning", "empty"],
        ["reasoning"],
        ["reasoning", "unfinished_reasoning", "empty"],
    ]


def test_a_recipe_of_the_paper_keeps_reasoning_and_flags_it(mine: TestClient) -> None:
    result = score(mine, "<think>a b c</think>a b c d", recipe="rer")

    assert result["flags"] == ["reasoning"]
    assert result["features"]["length_incentive"] == 0.13


def test_invisible_characters_earn_no_length(mine: TestClient) -> None:
    plain = score(mine, "abc bcd cde")

    assert score(mine, "a\u200bb\u00adc b\u2060cd c\u3164de\ufeff") == plain | {"flags": ["invisible_characters"]}


@pytest.mark.parametrize("recipe", ["mine", "rer", "li"])
@pytest.mark.parametrize("response", ["\u200b", "\ufeff\n\u3164", "\u2800\0"])
def test_a_response_that_shows_nothing_is_empty(mine: TestClient, recipe: str, response: str) -> None:
    result = score(mine, response, recipe=recipe)

    assert result["reward"] == 0
    assert result["flags"][-1] == "empty"


@pytest.mark.parametrize("prompt", ["\u200b", "\u2060 \n", "\u3164"])
def test_a_prompt_that_shows_nothing_is_refused_as_a_blank_one(mine: TestClient, prompt: str) -> None:
    reply = mine.post("/score", json={"items": [{"prompt": prompt, "response": "a"}]})

    assert reply.status_code == 422
    assert "has no user text" in reply.text


def test_a_reference_that_shows_nothing_is_missing(mine: TestClient) -> None:
    item = {"prompt": "a?", "response": "a", "reference": "\u200b\ufeff", "query_type": "closed_ended"}
    reply = mine.post("/score", json={"items": [item]})

    assert reply.status_code == 422
    assert "items.0.reference" in reply.text


def test_markdown_is_whole_by_default_and_a_cut_is_flagged(mine: TestClient) -> None:
    rule = "a b c\n\n---\n\nd e f"

    assert score(mine, rule)["features"]["length_incentive"] == 0.06
    assert score(mine, rule, recipe="rer")["flags"] == ["cut_at_stop_string"]
    assert score(mine, "a b c\n### Instruction:\nd e f")["flags"] == ["cut_at_stop_string"]


def test_two_texts_without_tokens_are_no_match(mine: TestClient) -> None:
    wrong = closed(mine, "🍎", "🍕")

    assert (wrong["reward"], wrong["flags"]) == (0, ["relevance_unreadable"])
    assert closed(mine, "🍎 🍎", "🍎\u200b 🍎 ")["flags"] == ["invisible_characters"]


def test_an_unknown_character_is_no_match_where_it_is_all_that_differs(mine: TestClient) -> None:
    assert closed(mine, "the answer is 🍎", "the answer is 🍕")["reward"] == 0
    assert closed(mine, "the answer is 🍎", "the answer is 🍎")["reward"] == pytest.approx(1)
    assert closed(mine, "the answer is 🍎", "the best answer is 🍕")["flags"] == []


def test_what_is_unreadable_is_remembered_with_the_vector(mine: TestClient) -> None:
    assert closed(mine, "🍎", "🍕") == closed(mine, "🍎", "🍕")
    assert closed(mine, "🍎🍎", "abc")["flags"] == closed(mine, "🍎🍎", "abc")["flags"] == ["relevance_unreadable"]


def test_a_recipe_may_keep_an_unreadable_relevance_or_make_it_an_error(mine: TestClient) -> None:
    kept = closed(mine, "the 🍎", "the 🍕", recipe_overrides={"unreadable_relevance": "keep"})
    assert kept["reward"] == pytest.approx(1)
    assert kept["flags"] == ["relevance_unreadable"]

    items = [
        {"prompt": "a?", "response": "🍕", "reference": "abc", "query_type": "closed_ended"},
        {"prompt": "🍎", "response": "abc"},
    ]
    refused = mine.post("/score", json={"items": items, "recipe_overrides": {"unreadable_relevance": "error"}})
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["items.0.response", "items.1.prompt"]


@pytest.mark.parametrize(
    "loop", ["叶子会变红" * 60, "ha" * 200, "a\n" * 200, "สวัสดีครับ" * 40], ids=["Chinese", "haha", "lines", "Thai"]
)
def test_a_loop_is_repetition_in_every_script(mine: TestClient, loop: str) -> None:
    assert score(mine, loop)["features"]["repetition_penalty"] < 0.25


@pytest.mark.parametrize(("policy", "novelty"), [("lowest", 1), ("error", 1), ("keep", 0)])
def test_sentences_without_tokens_are_not_seen_as_copies(mine: TestClient, policy: str, novelty: float) -> None:
    overrides = {"open_ended": ["semantic_novelty"], "unreadable_relevance": policy}
    result = score(mine, "a𐌰𐌱𐌲. a𐌳𐌴𐌵.", recipe_overrides=overrides)

    assert result["features"]["semantic_novelty"] == pytest.approx(novelty)
