"""The limits of a request apply to every protocol, in whatever form its texts, keys and references are posted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.hostile.service import HostileTarget
from tests.api.hostile.witness import Witness, statuses

pytestmark = pytest.mark.slow

TEXT, LONG = "a" * 190_000, "b" * 200_001


@pytest.fixture(scope="module")
def witness(target: HostileTarget) -> Iterator[Witness]:
    """Measures what others see during all tests of this module, and asserts the bounds after them."""
    with Witness(target) as witness:
        yield witness


def parts(n: int, text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}] * n


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def reply(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def verify(given: Any, output: Any = "Because.", **fields: Any) -> dict[str, Any]:
    output = [{"type": "message", **reply(output)}]
    return {"responses_create_params": {"input": given}, "response": {"output": output}, **fields}


TOO_LONG: dict[str, tuple[str, Any, str]] = {
    "20 parts": ("/slime", {"prompt": [user(parts(20, TEXT))], "response": "r"}, "prompt.0.content"),
    "2 parts that are long together": (
        "/slime",
        {"prompt": [user(parts(2, "p" * 150_000))], "response": "r"},
        "prompt.0.content",
    ),
    "messages with parts": ("/slime", {"prompt": [user(parts(1, TEXT))] * 3, "response": "r"}, "prompt.2.content"),
    "a response": ("/slime", {"prompt": "p", "response": LONG}, "response"),
    "a label": ("/slime", {"prompt": "p", "response": "r", "label": {"reference": LONG}}, "label.reference"),
    "parts of an item": (
        "/score",
        {"items": [{"prompt": [user(parts(20, TEXT))], "response": "r"}]},
        "items.0.prompt.0.content",
    ),
    "a query": ("/get_reward", {"query": [LONG], "prompts": ["b"]}, "query.0"),
    "texts of a sample": (
        "/get_reward",
        {"query": [TEXT], "prompts": [TEXT], "labels": ["c" * 100_000]},
        "labels.0",
    ),
    "parts of eval-protocol": ("/eval_protocol", {"messages": [user(parts(20, TEXT)), reply("r")]}, "messages.0"),
    "a ground truth": (
        "/eval_protocol",
        {"messages": [user("p"), reply("r")], "ground_truth": {"reference": LONG}},
        "ground_truth",
    ),
    "parts of xtuner's label": (
        "/xtuner",
        {"response": "r", "label": {"prompt": [user(parts(20, TEXT))]}},
        "label.prompt",
    ),
    "a text of LLaMA-Factory": ("/llamafactory", {"messages": [LONG]}, "messages.0"),
    "a prompt of PaddleNLP": ("/paddlenlp", {"src": [LONG], "response": ["r"]}, "src.0"),
    "parts of NeMo-Gym": ("/nemo_gym/verify", verify([user(parts(20, TEXT))]), "responses_create_params.input.0"),
    "parts of a policy's reply": ("/nemo_gym/verify", verify("p", parts(20, TEXT)), "response.output.0.content"),
    "parts of vLLM's messages": ("/classify", {"messages": [user(parts(20, TEXT)), reply("r")]}, "messages.0"),
    "an input": ("/pooling", {"input": ["c" * 400_001]}, "input.0"),
    "the name of a model": ("/classify", {"input": "t", "model": "m" * 257}, "model"),
    "the name of a model, for embeddings": ("/v1/embeddings", {"input": "t", "model": "m" * 257}, "model"),
    "a pair": ("/predict", {"inputs": [["p", LONG]]}, "inputs"),
    "a query of a re-ranker": ("/rerank", {"query": LONG, "texts": ["t"]}, "query"),
    "a text of a re-ranker": ("/rerank", {"query": "q", "texts": ["t", LONG]}, "texts.1"),
    "a query for many texts": ("/rerank", {"query": TEXT, "texts": ["t"] * 4_096}, "query"),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_text_over_a_limit_is_named(witness: Witness, name: str) -> None:
    path, body, field = TOO_LONG[name]

    answer = witness.post(path, body)

    assert answer.status == 413, answer.body[:500]
    assert answer.json()["errors"][0]["field"].startswith(field), answer.body[:500]


WITHIN: dict[str, tuple[str, Any]] = {
    "parts": ("/slime", {"prompt": [user(parts(2, "p" * 90_000))] * 2, "response": "r"}),
    "a re-ranker": ("/rerank", {"query": "q" * 200_000, "texts": ["t" * 200_000] * 2}),
    "the name of a model": ("/classify", {"input": "c" * 200_000, "model": "m" * 256}),
    "a key": ("/nemo_gym/verify", verify("p", **{"k" * 1_024: [1.5, {"a": []}]})),
}


@pytest.mark.parametrize("name", WITHIN)
def test_what_is_just_within_the_limits_is_scored(witness: Witness, name: str) -> None:
    answer = witness.post(*WITHIN[name])

    assert answer.status == 200, answer.body[:500]


LONG_KEYS: dict[str, tuple[str, Any]] = {
    "in a small body": ("/score", {"items": [{"prompt": "p", "response": "r", "k" * 1_025: 1}]}),
    "of a large body": ("/score", {"items": [], "k" * 100_000: 1}),
    "in an element": ("/get_reward", {"query": ["a"], "labels": [{"k" * 100_000: 1}]}),
    "deep in a field": ("/nemo_gym/verify", verify("p", x={"y": [{"k" * 2_000_000: [0] * 262_000}]})),
    "of statistics": ("/nemo_gym/aggregate_metrics", {"verify_responses": [{"k" * 1_025: 1.0}]}),
}


@pytest.mark.parametrize("name", LONG_KEYS)
def test_a_key_over_the_limit_is_an_error(witness: Witness, name: str) -> None:
    answer = witness.post(*LONG_KEYS[name])

    assert answer.status == 413
    assert "key of more than 1024 characters" in answer.json()["errors"][0]["message"]


def test_statistics_have_a_bound_in_bytes(witness: Witness) -> None:
    responses = [{f"{number:06d}".ljust(1_000, "k"): 1.0} for number in range(2_000)]

    answer = witness.post("/nemo_gym/aggregate_metrics", {"verify_responses": responses})

    assert answer.status == 413
    assert answer.json()["errors"][0]["field"] == "verify_responses"


def references(n_items: int, n: int, **fields: Any) -> dict[str, Any]:
    item = {"prompt": "Why?", "response": "Because.", "query_type": "closed_ended", **fields}
    return {"items": [item | {"reference": [f"{i}" for i in range(n)]}] * n_items, "recipe": "rer"}


def test_references_of_all_items_have_a_bound(witness: Witness) -> None:
    answer = witness.post("/score", references(4_096, 64))

    [error] = answer.json()["errors"]
    assert (answer.status, error["item"], error["field"]) == (413, 1_024, "items.1024.reference")


def test_references_that_a_data_set_has_for_all_items_have_the_same_bound(witness: Witness) -> None:
    row = json.dumps({"prompt": "Why?", "reference": [f"{i}" for i in range(64)]})
    url, headers = f"{witness.target.url}/datasets/many", witness.target.headers()
    assert httpx.put(url, content=row, headers=headers, timeout=60).status_code == 200
    items = [{"prompt": "Why?", "response": "Because."}] * 4_096

    answer = witness.post("/score?dataset=many", {"items": items, "recipe": "rer"})

    [error] = answer.json()["errors"]
    assert (answer.status, error["item"], error["field"]) == (413, 1_024, "items.1024.reference")


def test_every_limit_that_a_caller_can_reach_is_published(target: HostileTarget) -> None:
    limits = httpx.get(f"{target.url}/info", headers=target.headers(), timeout=60).json()["limits"]

    assert limits["max_request_chars"] == target.settings.max_body_bytes
    assert limits["max_key_chars"] == 1_024
    assert limits["max_request_references"] == limits["max_list_elements"] == 65_536
    assert limits["max_request_sentences"] == 65_536
    assert limits["max_metric_fields"] == 20_000
    assert limits["datasets_bytes"] == target.settings.datasets_bytes
    assert None not in limits.values()


def wide(value: Any) -> dict[str, Any]:
    """A body of NeMo-Gym with many values, which the reply repeats."""
    return verify("Why?", **{"k" * 1_000: [value] * 60_000, "l" * 1_000: [[value] * 60_000] * 3})


@pytest.mark.parametrize("value", [0.5, "x", {"a": None}])
def test_others_are_served_while_requests_with_many_values_are_repeated(target: HostileTarget, value: Any) -> None:
    content = json.dumps(wide(value))

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/nemo_gym/verify", content), workers=6)

    assert statuses(witness.replies) <= {200, 413, 429, 503, 504}
