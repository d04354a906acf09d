"""Ask the reward service: a synchronous and an asynchronous client over one conversation.

`_converse` is the conversation, free of I/O: it yields what to do next (send, or wait) and is told the outcome.
The two clients only carry that out, so they cannot differ in what they retry, raise or return.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from reward_client.errors import RewardError, RewardRejectedError, RewardUnavailableError
from reward_client.retry import RETRYABLE, RetryPolicy, parse_retry_after, retry_delay
from reward_client.wire import Info, Item, OnItemError, Problem, QueryType, ScoreReply, ScoreRequest

__all__ = ["AsyncRewardClient", "RewardClient"]


@dataclass(frozen=True, slots=True)
class _Send:
    method: str
    path: str
    body: str | None = None


@dataclass(frozen=True, slots=True)
class _Wait:
    seconds: float


ReplyT = TypeVar("ReplyT", bound=BaseModel)
_Outcome = httpx.Response | httpx.TransportError | None
_Conversation = Generator[_Send | _Wait, _Outcome, httpx.Response]


def _converse(call: _Send, url: str, policy: RetryPolicy) -> _Conversation:
    """Send `call` until an answer that a retry cannot better, or until the budget is spent."""
    started = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        outcome = yield call
        retry_after_s = None
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in RETRYABLE:
                return _accepted(outcome)
            retry_after_s = parse_retry_after(outcome.headers.get("retry-after"))
        elapsed_s = time.monotonic() - started
        delay = retry_delay(
            policy, attempt=attempt, elapsed_s=elapsed_s, retry_after_s=retry_after_s, jitter=random.random()
        )
        if delay is None:
            raise _gave_up(outcome, f"{url}{call.path}", attempt, elapsed_s)
        yield _Wait(delay)


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    if response.status_code < 500:
        raise RewardRejectedError(_problem(response))
    raise RewardError(f"the reward service failed: {_describe(response)}")


def _gave_up(outcome: _Outcome, url: str, attempts: int, elapsed_s: float) -> RewardUnavailableError:
    cause = _describe(outcome) if isinstance(outcome, httpx.Response) else f"{type(outcome).__name__}: {outcome}"
    error = RewardUnavailableError(
        f"no reward from {url} after {attempts} attempt(s) in {elapsed_s:.1f} s; last cause: {cause}. "
        "Is the service up? Try GET /readyz."
    )
    error.__cause__ = outcome if isinstance(outcome, Exception) else None
    return error


def _problem(response: httpx.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            title=response.reason_phrase or "error", status=response.status_code, detail=response.text[:500]
        )


def _describe(response: httpx.Response) -> str:
    problem = _problem(response)
    return f"{problem.status} {problem.title}: {problem.detail}"


def _parse(model: type[ReplyT], response: httpx.Response) -> ReplyT:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as exc:
        raise RewardError(f"{response.url} answered what is no {model.__name__}: {exc}") from exc


def score_request(
    items: Sequence[Item],
    *,
    recipe: str | None = None,
    recipe_overrides: Mapping[str, Any] | None = None,
    query_type_default: QueryType | None = None,
    gold: bool = False,
    on_item_error: OnItemError = "fail",
    run: str | None = None,
    step: int | None = None,
) -> ScoreRequest:
    """The request that `score` posts; the arguments are the fields of `wire.ScoreRequest`."""
    return ScoreRequest(
        items=list(items),
        recipe=recipe,
        recipe_overrides=dict(recipe_overrides) if recipe_overrides else None,
        query_type_default=query_type_default,
        gold=gold,
        on_item_error=on_item_error,
        run=run,
        step=step,
    )


def _score_call(request: ScoreRequest) -> _Send:
    return _Send("POST", "/score", request.model_dump_json(exclude_none=True))


def _score_reply(request: ScoreRequest, response: httpx.Response) -> ScoreReply:
    reply = _parse(ScoreReply, response)
    if len(reply.results) != len(request.items):
        raise RewardError(f"asked for {len(request.items)} rewards, got {len(reply.results)}")
    return reply


def _address(url: str) -> str:
    """`url` without a slash at its end. Raises RewardError when it is none."""
    if not url.startswith(("http://", "https://")):
        raise RewardError(f"{url!r} is no address of a reward service: it begins with http:// or https://")
    try:
        return str(httpx.URL(url)).rstrip("/")
    except httpx.InvalidURL as exc:
        raise RewardError(f"{url!r} is no address of a reward service: {exc}") from exc


_JSON = {"content-type": "application/json"}
_INFO = _Send("GET", "/info")
_READY = _Send("GET", "/readyz")


class RewardClient:
    """Synchronous client.

        with RewardClient("http://127.0.0.1:8000") as client:
            reply = client.score([Item(prompt="Why is the sky blue?", response="Because of …")])

    Args:
        url: where the service listens, without a path.
        timeout_s: seconds for one attempt, reading the answer included.
        retry: bounds on asking again.
        transport: an httpx transport, for tests and unusual networks.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 180.0,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = _address(url)
        self._retry = retry or RetryPolicy()
        self._http = httpx.Client(
            base_url=self.url, timeout=httpx.Timeout(timeout_s, connect=10.0), transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        """Score `items`, in order; `options` are those of `score_request`. Raises RewardError."""
        request = score_request(items, **options)
        return _score_reply(request, self._call(_score_call(request)))

    def info(self) -> Info:
        """What the service offers: recipes, models, limits, versions. Raises RewardError."""
        return _parse(Info, self._call(_INFO))

    def ready(self) -> None:
        """Return when the service can score; raise RewardError with its cause when it cannot."""
        self._call(_READY)

    def _call(self, call: _Send) -> httpx.Response:
        conversation = _converse(call, self.url, self._retry)
        step = next(conversation)
        try:
            while True:
                step = conversation.send(self._perform(step))
        except StopIteration as end:
            return _response(end)

    def _perform(self, step: _Send | _Wait) -> _Outcome:
        if isinstance(step, _Wait):
            time.sleep(step.seconds)
            return None
        try:
            return self._http.request(step.method, step.path, content=step.body, headers=_JSON)
        except httpx.TransportError as exc:
            return exc


class AsyncRewardClient:
    """Asynchronous client; arguments and behaviour of `RewardClient`."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 180.0,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = _address(url)
        self._retry = retry or RetryPolicy()
        self._http = httpx.AsyncClient(
            base_url=self.url, timeout=httpx.Timeout(timeout_s, connect=10.0), transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        """Score `items`, in order; `options` are those of `score_request`. Raises RewardError."""
        request = score_request(items, **options)
        return _score_reply(request, await self._call(_score_call(request)))

    async def info(self) -> Info:
        """What the service offers: recipes, models, limits, versions. Raises RewardError."""
        return _parse(Info, await self._call(_INFO))

    async def ready(self) -> None:
        """Return when the service can score; raise RewardError with its cause when it cannot."""
        await self._call(_READY)

    async def _call(self, call: _Send) -> httpx.Response:
        conversation = _converse(call, self.url, self._retry)
        step = next(conversation)
        try:
            while True:
                step = conversation.send(await self._perform(step))
        except StopIteration as end:
            return _response(end)

    async def _perform(self, step: _Send | _Wait) -> _Outcome:
        if isinstance(step, _Wait):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await self._http.request(step.method, step.path, content=step.body, headers=_JSON)
        except httpx.TransportError as exc:
            return exc


def _response(end: StopIteration) -> httpx.Response:
    response: httpx.Response = end.value
    return response
