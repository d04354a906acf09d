"""Samples of an OpenAI-compatible server: all n of a prompt, or an error that names it."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reward_client import RewardClient
from reward_client.completions import base_url
from reward_client.retry import RetryPolicy
from reward_client.wire import QueryType
from reward_evidence.best_of_n.endpoint_source import RETRY, EndpointSource
from reward_evidence.best_of_n.sources import SampleSettings
from reward_evidence.sampling.samples import Sample
from reward_runs.errors import EvaluationError
from reward_runs.prompts import Prompt
from tests.json_server import Received, json_server

SETTINGS = SampleSettings(n=4, temperature=0.8, max_new_tokens=50, seed=3, system_prompt="Be brief.")
PROMPTS = [Prompt(id=f"p{i}", prompt=f"Question {i}?", query_type=QueryType.OPEN_ENDED) for i in range(6)]
FAST = RetryPolicy(budget_s=5.0, first_delay_s=0.001, max_delay_s=0.01, statuses=RETRY.statuses)

Answer = Callable[[Received], tuple[int, Any]]


def choices(texts: list[Any], reason: str | None = "stop") -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "choices": [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
            for i, text in enumerate(texts)
        ],
    }


def respond(received: Received) -> tuple[int, Any]:
    """As many different choices as were requested."""
    body = received.json()
    return 200, choices([f"{body['messages'][-1]['content']} {body['seed']} {i}" for i in range(body["n"])])


@contextmanager
def source(answer: Answer, *, retry: RetryPolicy = FAST, key: str | None = None, **options: Any) -> Iterator[Any]:
    with json_server(answer) as url, RewardClient(base_url(url), retry=retry, api_key=key) as client:
        settings = options.pop("settings", SETTINGS)
        yield EndpointSource(client, "tiny", settings, **options)


def drawn(answer: Answer, **options: Any) -> dict[str, list[Sample]]:
    with source(answer, **options) as found:
        return {samples[0].prompt.id: samples for samples in found.samples(PROMPTS, {p.id for p in PROMPTS})}


def failure(answer: Answer, prompts: int = 1, **options: Any) -> str:
    with source(answer, **options) as found, pytest.raises(EvaluationError) as raised:
        list(found.samples(PROMPTS[:prompts], {p.id for p in PROMPTS}))
    return str(raised.value)


# Requests --------------------------------------------------------------------------------


def test_every_prompt_gets_all_its_samples_in_one_request() -> None:
    received: list[Received] = []

    def answer(request: Received) -> tuple[int, Any]:
        received.append(request)
        return respond(request)

    found = drawn(answer)

    assert {key: [s.sample for s in samples] for key, samples in found.items()} == {
        p.id: [0, 1, 2, 3] for p in PROMPTS
    }
    assert found["p2"][1].response.startswith("Question 2?")
    assert found["p2"][1].truncated is False
    assert {request.path for request in received} == {"/v1/chat/completions"}
    body = next(r.json() for r in received if "Question 2?" in r.body.decode())
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Question 2?"},
    ]
    assert (body["model"], body["n"], body["temperature"], body["max_tokens"]) == ("tiny", 4, 0.8, 50)
    assert len({r.json()["seed"] for r in received}) == len(PROMPTS)


def test_the_same_prompts_give_the_same_seeds_again_also_when_some_are_left_out() -> None:
    with source(respond) as found:
        all_of_them = {rows[0].prompt.id: rows for rows in found.samples(PROMPTS, {p.id for p in PROMPTS})}
        (again,) = found.samples(PROMPTS, {"p4"})

    assert again == all_of_them["p4"]


def test_the_completions_route_sends_plain_text() -> None:
    def answer(received: Received) -> tuple[int, Any]:
        body = received.json()
        assert received.path == "/v1/completions"
        text = body["prompt"]
        return 200, {"choices": [{"text": f"{text} {i}", "finish_reason": "length"} for i in range(body["n"])]}

    found = drawn(answer, api="completions")

    assert found["p0"][3].response == "Be brief.\n\nQuestion 0? 3"
    assert found["p0"][3].truncated is True


def test_the_key_is_sent_and_more_fields_can_be_added_or_removed() -> None:
    seen: list[Received] = []

    def answer(received: Received) -> tuple[int, Any]:
        seen.append(received)
        return respond(received) if "seed" in received.json() else (200, choices(["a", "b", "c", "d"]))

    drawn(answer, key="secret", body={"top_p": 0.9, "seed": None, "max_tokens": None, "max_completion_tokens": 5})

    assert {r.headers["authorization"] for r in seen} == {"Bearer secret"}
    body = seen[0].json()
    assert body["top_p"] == 0.9
    assert body["max_completion_tokens"] == 5
    assert "seed" not in body
    assert "max_tokens" not in body


@pytest.mark.parametrize("body", [{"n": 1}, {"messages": []}, {"temperature": 0.1}, {"stream": True}])
def test_fields_that_the_command_sets_cannot_be_replaced(body: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match=f"--body {next(iter(body))}"), source(respond, body=body):
        pass


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("http://key:a@host:8000", "http://key:a@host:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/api/openai", "https://host/api/openai"),
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("https://host/v1/completions", "https://host/v1"),
    ],
)
def test_the_url_may_be_written_in_the_usual_forms(given: str, expected: str) -> None:
    assert base_url(given) == expected


# Servers that return less --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_a_server_that_returns_fewer_choices_is_asked_for_the_others_with_another_seed(limit: int) -> None:
    def answer(received: Received) -> tuple[int, Any]:
        body = received.json()
        return 200, choices([f"{body['seed']} {i}" for i in range(min(limit, body["n"]))])

    found = drawn(answer)

    assert all(len({s.response for s in samples}) == 4 for samples in found.values())
    assert [s.sample for s in found["p5"]] == [0, 1, 2, 3]


def test_a_request_asks_for_no_more_choices_than_the_server_allows() -> None:
    def answer(received: Received) -> tuple[int, Any]:
        n = received.json()["n"]
        return respond(received) if n == 1 else (400, {"error": {"message": "n must be 1"}})

    assert len(drawn(answer, max_choices=1)["p0"]) == 4
    assert "n must be 1" in failure(answer)


def test_an_empty_text_is_a_sample() -> None:
    found = drawn(lambda received: (200, choices(["", "a", "", "b"])))

    assert [s.response for s in found["p0"]] == ["", "a", "", "b"]


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        ({"choices": []}, "choices"),
        ({"id": "x"}, "choices: Field required"),
        ([1, 2], "is not one of OpenAI's API"),
        (b"<html>gateway</html>", "is not one of OpenAI's API"),
        (choices(["a"] * 5), "5 choices, 4 were requested"),
        (choices(["a", None], "length"), "choice 1 has no text.*raise --max-new-tokens"),
        (choices([None], "stop"), "choice 0 has no text"),
        (choices(["a"], "content_filter"), "content_filter"),
        ({"choices": [{"finish_reason": "stop"}]}, "no text"),
    ],
)
def test_what_is_no_sample_is_an_error_that_names_the_prompt(reply: Any, cause: str) -> None:
    message = failure(lambda received: (200, reply))

    assert message.startswith("prompt 1 of 1 (p0): ")
    assert re.search(cause, message), message


# Failures --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_failure_that_passes_costs_no_sample(status: int) -> None:
    lock, attempts = threading.Lock(), Counter[str]()

    def answer(received: Received) -> tuple[int, Any]:
        content = received.json()["messages"][-1]["content"]
        with lock:
            attempts[content] += 1
            first = attempts[content] == 1
        return (status, {"error": {"message": "not now"}}) if first else respond(received)

    found = drawn(answer)

    assert all(len(samples) == 4 for samples in found.values())
    assert set(attempts.values()) == {2}


def test_a_failure_that_does_not_pass_is_an_error_with_its_cause() -> None:
    policy = RetryPolicy(budget_s=0.05, first_delay_s=0.001, max_delay_s=0.01, statuses=RETRY.statuses)

    message = failure(lambda received: (500, {"error": {"message": "worker died"}}), retry=policy)

    assert message.startswith("prompt 1 of 1 (p0): ")
    assert "gave 0 of 4 samples" in message
    assert "worker died" in message
    assert "readyz" not in message


def test_a_server_that_is_not_there_is_an_error() -> None:
    with json_server(respond) as url:
        pass
    policy = RetryPolicy(budget_s=0.05, first_delay_s=0.001, max_delay_s=0.01)
    with (
        RewardClient(base_url(url), retry=policy) as client,
        pytest.raises(EvaluationError, match=r"p0.*ConnectError"),
    ):
        list(EndpointSource(client, "tiny", SETTINGS).samples(PROMPTS[:1], {"p0"}))


def test_a_wrong_key_names_the_variable() -> None:
    assert "OPENAI_API_KEY" in failure(lambda received: (401, {"error": {"message": "bad key"}}))


def test_samples_of_other_prompts_are_yielded_before_the_error() -> None:
    def answer(received: Received) -> tuple[int, Any]:
        return (400, {"error": "too long"}) if "Question 3?" in received.body.decode() else respond(received)

    kept: list[str] = []
    with source(answer, in_flight=1) as found, pytest.raises(EvaluationError, match=r"prompt 4 of 6 \(p3\)"):
        kept.extend(samples[0].prompt.id for samples in found.samples(PROMPTS, {p.id for p in PROMPTS}))

    assert {"p0", "p1", "p2"} <= set(kept)
    assert "p3" not in kept


def test_requests_are_in_flight_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=20)

    def answer(received: Received) -> tuple[int, Any]:
        barrier.wait()  # fails unless three requests arrive together
        return respond(received)

    assert len(drawn(answer, in_flight=3)) == 6
