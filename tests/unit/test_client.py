"""The reward client: what it retries, what it raises, and that it never makes up a number."""

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
    """A handler that gives `responses` in turn, and the requests it saw."""
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
    """Score through both clients; they must agree."""
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
def test_a_reply_is_returned_as_it_is(ask: Ask) -> None:
    handler, seen = answers(httpx.Response(200, json=REPLY))

    assert ask(handler).rewards == [0.5]
    assert json.loads(seen[0].content)["items"] == [{"prompt": "p", "response": "r"}]


@BOTH
@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_what_can_heal_is_tried_again(ask: Ask, status: int) -> None:
    handler, seen = answers(problem(status), httpx.ConnectError("refused"), httpx.Response(200, json=REPLY))

    assert ask(handler).rewards == [0.5]
    assert len(seen) == 3


@BOTH
@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_a_refusal_is_raised_at_once_with_the_services_own_account(ask: Ask, status: int) -> None:
    handler, seen = answers(problem(status))

    with pytest.raises(RewardRejectedError, match=r"because.*items\.0\.x: is bad") as caught:
        ask(handler)

    assert len(seen) == 1
    assert caught.value.problem.status == status


@BOTH
def test_a_bug_in_the_service_is_raised_not_retried(ask: Ask) -> None:
    handler, seen = answers(problem(500))

    with pytest.raises(RewardError, match="because"):
        ask(handler)
    assert len(seen) == 1


@BOTH
def test_when_the_budget_is_spent_the_error_names_url_and_last_cause(ask: Ask) -> None:
    handler, _ = answers(*[httpx.ConnectError("connection refused")] * 500)

    with pytest.raises(RewardUnavailableError, match=r"http://test/score.*connection refused"):
        ask(handler, RetryPolicy(budget_s=0.02, first_delay_s=0.01))


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        "no json",
        json.dumps(REPLY | {"rewards": [float("nan")], "results": [{"reward": float("nan")}]}),
        json.dumps(REPLY | {"results": []}),
        json.dumps(0.5),
    ],
)
def test_an_answer_that_is_no_reply_is_an_error_never_a_number(ask: Ask, body: str) -> None:
    handler, _ = answers(httpx.Response(200, text=body))

    with pytest.raises(RewardError):
        ask(handler)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://host:port", ""])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(RewardError, match="is no address"):
        RewardClient(url)


def pause(policy: RetryPolicy = RetryPolicy(), **facts: float | None) -> float:  # noqa: B008 (frozen)
    known = {"attempt": 1, "retry_after_s": None, "jitter": 0.5} | facts
    return backoff_s(policy, **known)  # type: ignore[arg-type]


def test_a_sane_retry_after_is_obeyed_and_an_absurd_one_is_not() -> None:
    assert pause(retry_after_s=7.0, jitter=0.0) == 7.0
    assert pause(retry_after_s=99_999.0) == 0.125


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_waits_of_our_own_choosing_are_bounded(attempt: int, jitter: float) -> None:
    assert 0 <= pause(attempt=attempt, jitter=jitter) <= RetryPolicy().max_delay_s


@given(asked=st.floats(0, 120), jitter=st.floats(0, 1, exclude_max=True))
def test_nobody_comes_back_before_the_service_asked_them_to(asked: float, jitter: float) -> None:
    assert asked <= pause(retry_after_s=asked, jitter=jitter) <= asked + RetryPolicy().first_delay_s


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
def test_retry_after_is_read_in_both_its_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOON) == seconds


@BOTH
def test_every_attempt_of_a_post_carries_the_same_key_and_another_call_another(ask: Ask) -> None:
    handler, seen = answers(problem(503), httpx.Response(200, json=REPLY), httpx.Response(200, json=REPLY))

    ask(handler), ask(handler)

    first, again, other = (request.headers["idempotency-key"] for request in seen)
    assert first == again != other


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        {"results": [{"reward": 0.5, "id": "somebody else's"}]},
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
def test_whatever_goes_wrong_the_unscored_items_are_named(ask: Ask) -> None:
    for failure in (problem(422), problem(500), httpx.Response(200, text="no json")):
        handler, _ = answers(failure)

        with pytest.raises(RewardError) as caught:
            ask(handler)

        assert caught.value.unscored == ((0, None),)
        assert caught.value.partial is None


@BOTH
def test_an_answer_in_an_encoding_that_cannot_be_read_is_an_error_with_its_cause(ask: Ask) -> None:
    handler, _ = answers(httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Garbage()))

    with pytest.raises(RewardError, match="DecodingError"):
        ask(handler)


class Garbage(httpx.SyncByteStream, httpx.AsyncByteStream):
    """What no decoder can read."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"garbage"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"garbage"
