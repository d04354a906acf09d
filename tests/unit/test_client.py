"""The client: retries, errors, and that a failure never becomes a reward."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_client import (
    AsyncRewardClient,
    Item,
    RetryPolicy,
    RewardClient,
    RewardError,
    RewardRejectedError,
    RewardUnavailableError,
    ScoreReply,
)
from reward_client.retry import backoff_s, parse_retry_after

ITEMS = [Item(prompt="p", response="r")]
QUICK = RetryPolicy(budget_s=5.0, first_delay_s=0.001, max_delay_s=0.002)
REPLY = {
    "rewards": [0.5],
    "results": [{"reward": 0.5}],
    "recipe": {"name": "rer", "hash": "x"},
    "models": {"relevance": "m", "gold": None},
    "timing_ms": {"queue": 0.0, "encode": 0.0, "gold": None, "total": 0.0},
}
Handler = Callable[[httpx.Request], httpx.Response]


def answers(*responses: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """A handler that returns `responses` in turn, and the list of requests it received."""
    seen: list[httpx.Request] = []
    script: Iterator[httpx.Response | Exception] = iter(responses)

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = next(script)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle, seen


def problem(status: int, **headers: str) -> httpx.Response:
    body = {
        "title": "t",
        "status": status,
        "detail": "because",
        "errors": [{"field": "items.0.x", "message": "is bad"}],
    }
    return httpx.Response(status, json=body, headers=headers)


def score(handler: Handler, policy: RetryPolicy = QUICK) -> ScoreReply:
    """Score through the synchronous client."""
    with RewardClient("http://test", retry=policy, transport=httpx.MockTransport(handler)) as client:
        return client.score(ITEMS)


def score_async(handler: Handler, policy: RetryPolicy = QUICK) -> ScoreReply:
    async def ask() -> ScoreReply:
        transport = httpx.MockTransport(handler)
        async with AsyncRewardClient("http://test", retry=policy, transport=transport) as client:
            return await client.score(ITEMS)

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("ask", [score, score_async])
Ask = Callable[..., ScoreReply]


@BOTH
def test_a_reply_is_returned_unchanged(ask: Ask) -> None:
    handler, seen = answers(httpx.Response(200, json=REPLY))

    assert ask(handler).rewards == [0.5]
    assert json.loads(seen[0].content)["items"] == [{"prompt": "p", "response": "r"}]


@BOTH
@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_retryable_statuses_are_retried(ask: Ask, status: int) -> None:
    handler, seen = answers(problem(status), httpx.ConnectError("refused"), httpx.Response(200, json=REPLY))

    assert ask(handler).rewards == [0.5]
    assert len(seen) == 3


@BOTH
@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_a_rejection_is_raised_at_once_with_the_problem_of_the_service(ask: Ask, status: int) -> None:
    handler, seen = answers(problem(status))

    with pytest.raises(RewardRejectedError, match=r"because.*items\.0\.x: is bad") as caught:
        ask(handler)

    assert len(seen) == 1
    assert caught.value.problem.status == status


@BOTH
def test_an_internal_error_of_the_service_is_raised_and_not_retried(ask: Ask) -> None:
    handler, seen = answers(problem(500))

    with pytest.raises(RewardError, match="because"):
        ask(handler)
    assert len(seen) == 1


@BOTH
def test_the_error_after_the_retry_budget_names_url_and_last_cause(ask: Ask) -> None:
    handler, _ = answers(*[httpx.ConnectError("connection refused")] * 500)

    with pytest.raises(RewardUnavailableError, match=r"http://test/score.*connection refused"):
        ask(handler, RetryPolicy(budget_s=0.02, first_delay_s=0.01))


@BOTH
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("not JSON", "reply is not a valid ScoreReply: Invalid JSON"),
        (
            json.dumps(REPLY | {"rewards": [float("nan")], "results": [{"reward": float("nan")}]}),
            r"reply is not a valid ScoreReply: rewards\.0: Input should be a finite number",
        ),
        (json.dumps(REPLY | {"results": []}), "the reply to 1 items has 1 rewards and 0 results"),
        (json.dumps(0.5), "reply is not a valid ScoreReply: Input should be an object"),
    ],
)
def test_a_response_that_is_not_a_reply_is_an_error_and_never_a_reward(ask: Ask, body: str, message: str) -> None:
    handler, _ = answers(httpx.Response(200, text=body))

    with pytest.raises(RewardError, match=message):
        ask(handler)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://host:port", ""])
def test_an_invalid_url_is_rejected_at_once(url: str) -> None:
    with pytest.raises(RewardError, match="is not the URL of a reward service"):
        RewardClient(url)


def pause(policy: RetryPolicy = RetryPolicy(), **facts: float | None) -> float:  # noqa: B008 (frozen)
    known = {"attempt": 1, "retry_after_s": None, "jitter": 0.5} | facts
    return backoff_s(policy, **known)  # type: ignore[arg-type]


def test_a_reasonable_retry_after_is_respected_and_an_excessive_one_is_not() -> None:
    assert pause(retry_after_s=7.0, jitter=0.0) == 7.0
    assert pause(retry_after_s=99_999.0) == 0.125


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_delays_without_retry_after_are_bounded(attempt: int, jitter: float) -> None:
    assert 0 <= pause(attempt=attempt, jitter=jitter) <= RetryPolicy().max_delay_s


@given(wanted=st.floats(0, 120), jitter=st.floats(0, 1, exclude_max=True))
def test_no_retry_begins_before_retry_after(wanted: float, jitter: float) -> None:
    assert wanted <= pause(retry_after_s=wanted, jitter=jitter) <= wanted + RetryPolicy().first_delay_s


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
    ],
)
def test_both_forms_of_retry_after_are_parsed(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOON) == seconds


@BOTH
def test_all_attempts_of_a_call_have_the_same_idempotency_key(ask: Ask) -> None:
    handler, seen = answers(problem(503), httpx.Response(200, json=REPLY), httpx.Response(200, json=REPLY))

    ask(handler), ask(handler)

    first, again, other = (request.headers["idempotency-key"] for request in seen)
    assert first == again != other


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        {"results": [{"reward": 0.5, "id": "another item's"}]},
        {"results": [{"reward": 0.25}]},
        {"rewards": [0.5, 0.5]},
        {"rewards": [None], "results": [{"reward": None}]},
    ],
)
def test_a_reply_that_does_not_fit_the_items_is_an_error(ask: Ask, change: dict[str, object]) -> None:
    handler, _ = answers(httpx.Response(200, json=REPLY | change))

    with pytest.raises(RewardError):
        ask(handler)


@BOTH
def test_every_error_lists_the_unscored_items(ask: Ask) -> None:
    for failure in (problem(422), problem(500), httpx.Response(200, text="no json")):
        handler, _ = answers(failure)

        with pytest.raises(RewardError) as caught:
            ask(handler)

        assert caught.value.unscored == ((0, None),)
        assert caught.value.partial is None


@BOTH
def test_a_response_that_cannot_be_decoded_is_an_error_with_its_cause(ask: Ask) -> None:
    handler, _ = answers(httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Garbage()))

    with pytest.raises(RewardError, match="DecodingError"):
        ask(handler)


class Garbage(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that cannot be decoded."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"garbage"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"garbage"


def scored_with_a_data_set(item: Item, **result: object) -> ScoreReply:
    reply = {**REPLY, "rewards": [result.get("reward")], "results": [result]}
    with RewardClient(
        "http://test", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=reply))
    ) as one:
        return one.score([item], dataset="train", on_item_error="report")


@pytest.mark.parametrize("reference", [None, "", [], [" ", None]])
def test_a_service_that_ignores_the_data_set_is_an_error_and_gives_no_reward(reference: object) -> None:
    """Release 0.2.0 reads no query, so such an item would be open-ended without a word."""
    item = Item(prompt="p", response="r", reference=reference)

    with pytest.raises(RewardError, match=r"item 0 has no reference.*Upgrade the service"):
        scored_with_a_data_set(item, reward=0.5, flags=["classified"])


@pytest.mark.parametrize(
    ("reference", "result"),
    [
        (None, {"reward": 0.5, "flags": ["dataset_hit"]}),
        (None, {"reward": 0.5, "flags": ["empty", "dataset_miss"]}),
        (None, {"reward": None, "error": {"field": "prompt", "message": "is not in the data set"}}),
        ("a", {"reward": 0.5}),
    ],
    ids=["found", "missed", "an error", "a reference of its own"],
)
def test_results_of_a_service_that_reads_the_data_set_are_returned(
    reference: str | None, result: dict[str, object]
) -> None:
    reply = scored_with_a_data_set(Item(prompt="p", response="r", reference=reference), **result)

    assert reply.results[0].reward == result["reward"]
