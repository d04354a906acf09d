"""Ask the reward service: a synchronous and an asynchronous client over the same conversations.

    client.py        two shells: they send, receive and wait              the only I/O here
    bounds.py        the time that one attempt takes, phase by phase
    calls.py         score, info, ready; large batches in parts ── splitting.py
    conversation.py  attempts, retries, failover, deadline ─────── retry.py, circuit.py, endpoints.py
    address.py       URLs and keys            wire.py  what travels       errors.py  what can go wrong

The shells only carry out what a conversation says, so they cannot differ in what they retry, raise or return.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from reward_client.circuit import CircuitPolicy
from reward_client.endpoints import Endpoints
from reward_client.flow import ClientConfig, Outcome, RawResponse, SendRequest, Sleep, Step, TransportFailure
from reward_client.operations import Flow, Operations, ResultT, score_request
from reward_client.retry import RetryPolicy
from reward_client.timeouts import async_deadline, hold, sync_deadline
from reward_client.urls import addresses
from reward_client.wire import Info, Item, ScoreReply

__all__ = ["AsyncRewardClient", "RewardClient"]

MAX_CONNECTIONS = 100
"""Open connections of one client; further calls stand in line."""
KEEP_ALIVE_S = 4.0
"""Seconds that an idle connection is kept: a server may close it after 5 s; one found dead costs an attempt."""
MAX_REPLY_BYTES = 256 * 1024 * 1024
"""Bytes of one answer: what is larger is no answer to what was asked."""

_LIMITS = httpx.Limits(
    max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S
)


class _Client:
    """What both clients are: addresses, bounds, conversations."""

    def __init__(
        self,
        urls: str | Sequence[str],
        api_key: str | None,
        terms: ClientConfig,
        circuit: CircuitPolicy | None,
        deadline_s: float | None,
    ) -> None:
        endpoints = Endpoints(addresses(urls, api_key), circuit or CircuitPolicy())
        self.urls = tuple(address.url for address in endpoints.addresses)
        """Where the services listen, without keys."""
        self._deadline_s = deadline_s
        self._asking = Operations(endpoints, terms)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.urls))})"

    def _deadline(self, deadline_s: float | None) -> float | None:
        return self._deadline_s if deadline_s is None else deadline_s


class RewardClient(_Client):
    """Synchronous client; threads may share it.

        with RewardClient("http://127.0.0.1:8000") as client:
            reply = client.score([Item(prompt="Why is the sky blue?", response="Because of …")])

    Args:
        urls: where the service listens, without a path; several replicas in order of preference. A key may stand
            in it: `http://key:SECRET@host`.
        api_key: sent as `Authorization: Bearer` to URLs without a key of their own.
        connect_timeout_s: seconds to reach the service, an attempt.
        read_timeout_s: seconds to send a request, and as many again for the whole answer, an attempt.
        deadline_s: seconds for a whole call, with all attempts and all parts of a large batch; the service is
            told. Each call may give its own. None leaves it to the other bounds. Looking up a host's name may
            outlast it, and so may a name that stands for several addresses nobody answers at.
        retry: bounds on asking again.
        circuit: when a URL that fails is left alone.
        transport: an httpx transport, for tests and unusual networks; one that is not of httpx's own making
            bounds connecting and writing itself.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        api_key: str | None = None,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 180.0,
        deadline_s: float | None = None,
        retry: RetryPolicy | None = None,
        circuit: CircuitPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        terms = ClientConfig(retry or RetryPolicy(), connect_timeout_s, read_timeout_s)
        super().__init__(urls, api_key, terms, circuit, deadline_s)
        self._http = httpx.Client(limits=_LIMITS, transport=transport)
        hold(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def score(self, items: Sequence[Item], *, deadline_s: float | None = None, **options: Any) -> ScoreReply:
        """Score `items`, in order; `options` are those of `score_request`. Raises RewardError.

        A batch beyond the service's limits is sent in parts. An error's `unscored` names the items without reward.
        """
        return self._run(self._asking.score(score_request(items, **options), self._deadline(deadline_s)))

    def info(self, *, deadline_s: float | None = None) -> Info:
        """What the service offers: recipes, models, limits, versions. Raises RewardError."""
        return self._run(self._asking.info(self._deadline(deadline_s)))

    def ready(self, *, deadline_s: float | None = None) -> None:
        """Return when the service can score; raise RewardError with its cause when it cannot."""
        return self._run(self._asking.ready(self._deadline(deadline_s)))

    def _run(self, conversation: Flow[ResultT]) -> ResultT:
        outcome: Outcome = None
        try:
            while True:
                outcome = self._perform(conversation.send(outcome))
        except StopIteration as end:
            result: ResultT = end.value
            return result
        finally:
            conversation.close()

    def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        try:
            with sync_deadline(step) as allowance, self._http.stream(**_request(step)) as response:
                receipt = _Receipt(response)
                for chunk in response.iter_bytes():
                    allowance.check()
                    receipt.add(chunk)
                return receipt.answer()
        except httpx.RequestError as exc:
            return TransportFailure(exc)


class AsyncRewardClient(_Client):
    """Asynchronous client; arguments and behaviour of `RewardClient`."""

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        api_key: str | None = None,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 180.0,
        deadline_s: float | None = None,
        retry: RetryPolicy | None = None,
        circuit: CircuitPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        terms = ClientConfig(retry or RetryPolicy(), connect_timeout_s, read_timeout_s)
        super().__init__(urls, api_key, terms, circuit, deadline_s)
        self._http = httpx.AsyncClient(limits=_LIMITS, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def score(self, items: Sequence[Item], *, deadline_s: float | None = None, **options: Any) -> ScoreReply:
        """Score `items`, in order; `options` are those of `score_request`. Raises RewardError.

        A batch beyond the service's limits is sent in parts. An error's `unscored` names the items without reward.
        """
        return await self._run(self._asking.score(score_request(items, **options), self._deadline(deadline_s)))

    async def info(self, *, deadline_s: float | None = None) -> Info:
        """What the service offers: recipes, models, limits, versions. Raises RewardError."""
        return await self._run(self._asking.info(self._deadline(deadline_s)))

    async def ready(self, *, deadline_s: float | None = None) -> None:
        """Return when the service can score; raise RewardError with its cause when it cannot."""
        return await self._run(self._asking.ready(self._deadline(deadline_s)))

    async def _run(self, conversation: Flow[ResultT]) -> ResultT:
        outcome: Outcome = None
        try:
            while True:
                outcome = await self._perform(conversation.send(outcome))
        except StopIteration as end:
            result: ResultT = end.value
            return result
        finally:
            conversation.close()

    async def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with async_deadline(step) as trace, self._http.stream(**_request(step, trace=trace)) as response:
                receipt = _Receipt(response)
                async for chunk in response.aiter_bytes():
                    receipt.add(chunk)
                return receipt.answer()
        except httpx.RequestError as exc:
            return TransportFailure(exc)


def _request(step: SendRequest, **extensions: Any) -> dict[str, Any]:
    """`step` as arguments of httpx."""
    timeout = httpx.Timeout(step.read_timeout_s, connect=step.connect_timeout_s, pool=step.left_s)
    return {
        "method": step.method,
        "url": step.url,
        "content": step.body,
        "headers": step.headers,
        "timeout": timeout,
        "extensions": extensions,
    }


class _Receipt:
    """An answer while it comes in, bounded in size; `bounds` sees to its time."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._body = bytearray()

    def add(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > MAX_REPLY_BYTES:
            raise httpx.DecodingError(f"it is larger than {MAX_REPLY_BYTES} bytes")

    def answer(self) -> RawResponse:
        response = self._response
        return RawResponse(
            response.status_code, bytes(self._body), response.reason_phrase, response.headers.get("retry-after")
        )
