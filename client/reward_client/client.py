"""The reward service's clients: one synchronous, one asynchronous, over the same request flows.

    client.py        two shells that send, receive and sleep ── transport.py: the sockets of the synchronous one
    network.py       proxies and trusted certificates of the environment
    timeouts.py      the time budget of an attempt, by phase
    operations.py    score, info, ready; a large batch in parts
    flow.py          attempts, retries, failover, deadline ──── retry.py, endpoints.py
    urls.py          URLs and API keys      wire  the models of requests and replies      errors.py  the errors

The shells only perform the steps of a flow, so both clients retry, raise and return the same.
"""

import asyncio
import ssl
import time
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx

from reward_client.endpoints import CircuitPolicy, Endpoints
from reward_client.flow import ClientConfig, Outcome, RawResponse, SendRequest, Sleep, Step, TransportFailure
from reward_client.given_items import GivenItem
from reward_client.network import Proxy, proxies_for, trusted_certificates
from reward_client.operations import Flow, Operations, ResultT
from reward_client.retry import RetryPolicy
from reward_client.score_call import score_call
from reward_client.timeouts import async_deadline, sync_deadline
from reward_client.transport import DeadlineTransport
from reward_client.urls import addresses
from reward_client.wire import Info, ScoreReply

MAX_CONNECTIONS = 100
"""Open connections of one client; further calls wait for a free one."""
KEEP_ALIVE_S = 4.0
"""Seconds for which an idle connection is kept; servers may close it after 5 s, which would cost an attempt."""
MAX_REPLY_BYTES = 256 * 1024 * 1024
"""Bytes of one response; a larger one is an error."""

_LIMITS = httpx.Limits(
    max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S
)

TransportT = TypeVar("TransportT", httpx.BaseTransport, httpx.AsyncBaseTransport)


class _Client(Generic[TransportT]):
    """What both clients share: arguments, endpoints, operations."""

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
        transport: TransportT | None = None,
    ) -> None:
        endpoints = Endpoints(addresses(urls, api_key), circuit or CircuitPolicy())
        self.urls = tuple(address.url for address in endpoints.addresses)
        """URLs of the services, without API keys."""
        self._deadline_s = deadline_s
        config = ClientConfig(retry or RetryPolicy(), connect_timeout_s, read_timeout_s)
        self._operations = Operations(endpoints, config)
        self._open(transport)

    def _open(self, transport: TransportT | None) -> None:
        raise NotImplementedError

    def _network(self) -> tuple[dict[str, Proxy], ssl.SSLContext]:
        """Proxies by origin, and certificates, which are read only if they are needed."""
        proxies = proxies_for(self.urls)
        schemes = {url.partition(":")[0] for url in self.urls} | {proxy.url.scheme for proxy in proxies.values()}
        return proxies, trusted_certificates() if "https" in schemes else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.urls))})"

    def _deadline(self, deadline_s: float | None) -> float | None:
        return self._deadline_s if deadline_s is None else deadline_s


class RewardClient(_Client[httpx.BaseTransport]):
    """Synchronous client; threads may share it.

        with RewardClient("http://127.0.0.1:8000") as client:
            reply = client.score([Item(prompt="Why is the sky blue?", response="Because of …")])

    Args:
        urls: URL of the service, without a path; several replicas in order of preference. A URL may contain an
            API key: `http://key:SECRET@host`.
        api_key: sent as `Authorization: Bearer` to URLs that contain no key.
        connect_timeout_s: seconds to connect, for each attempt.
        read_timeout_s: seconds to send the request, and as many to receive the whole response, for each attempt.
        deadline_s: seconds for a whole call, with all attempts and all parts of a large batch; sent to the
            service. A call may set another one. None: no limit but the others. Resolving a host name may take
            longer, and so may connecting to a name with several addresses that do not respond.
        retry: bounds on retries.
        circuit: when a failing URL is skipped.
        transport: an httpx transport, for tests and unusual networks; it must limit the time for connecting,
            sending and response headers itself, unless it is a `reward_client.transport.DeadlineTransport`.
    """

    def _open(self, transport: httpx.BaseTransport | None) -> None:
        mounts: dict[str, httpx.BaseTransport] = {}
        if transport is None:
            proxies, context = self._network()
            transport = DeadlineTransport(_LIMITS, ssl_context=context)
            mounts = {
                origin: DeadlineTransport(_LIMITS, proxy=proxy, ssl_context=context)
                for origin, proxy in proxies.items()
            }
        self._http = httpx.Client(transport=transport, mounts=mounts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def score(self, items: Iterable[GivenItem], *, deadline_s: float | None = None, **options: Any) -> ScoreReply:
        """Score `items`; the results have the same order. `options` are those of `score_call`.

        An item is an `Item`, or a dict with its fields; a wrong one is a TypeError or ValueError before anything
        is sent. A batch beyond the service's limits is sent in parts. Raises RewardError, whose `unscored` lists
        the items without a reward.
        """
        request, path = score_call(items, **options)
        return self._run(self._operations.score(request, self._deadline(deadline_s), path))

    def info(self, *, deadline_s: float | None = None) -> Info:
        """Recipes, models, limits and versions of the service. Raises RewardError."""
        return self._run(self._operations.info(self._deadline(deadline_s)))

    def ready(self, *, deadline_s: float | None = None) -> None:
        """Return if the service can score, or else raise RewardError with the cause."""
        return self._run(self._operations.ready(self._deadline(deadline_s)))

    def post(self, path: str, body: bytes, *, deadline_s: float | None = None) -> bytes:
        """Post a JSON body to the route `path` of another protocol, with the retries of `score`.

        Returns the body of the response. Raises RewardError.
        """
        return self.request("POST", path, body, deadline_s=deadline_s)

    def request(
        self, method: str, path: str, body: bytes | None = None, *, deadline_s: float | None = None
    ) -> bytes:
        """As `post`, with another method."""
        return self._run(self._operations.request(method, path, body, self._deadline(deadline_s)))

    def _run(self, flow: Flow[ResultT]) -> ResultT:
        outcome: Outcome = None
        try:
            while True:
                outcome = self._perform(flow.send(outcome))
        except StopIteration as end:
            result: ResultT = end.value
            return result
        finally:
            flow.close()

    def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        try:
            with sync_deadline(step) as budget, self._http.stream(**_request(step)) as response:
                reader = _ResponseReader(response)
                for chunk in response.iter_bytes():
                    budget.check("read")  # also for transports that do not check it
                    reader.add(chunk)
                return reader.response()
        except httpx.RequestError as exc:
            return TransportFailure(exc)


class AsyncRewardClient(_Client[httpx.AsyncBaseTransport]):
    """Asynchronous client; arguments and behaviour of `RewardClient`."""

    def _open(self, transport: httpx.AsyncBaseTransport | None) -> None:
        mounts: dict[str, httpx.AsyncBaseTransport] = {}
        if transport is None:
            proxies, context = self._network()
            new_transport = partial(httpx.AsyncHTTPTransport, limits=_LIMITS, verify=context)
            transport = new_transport()
            mounts = {origin: new_transport(proxy=proxy.for_httpx(context)) for origin, proxy in proxies.items()}
        self._http = httpx.AsyncClient(transport=transport, mounts=mounts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def score(
        self, items: Iterable[GivenItem], *, deadline_s: float | None = None, **options: Any
    ) -> ScoreReply:
        """As `RewardClient.score`."""
        request, path = score_call(items, **options)
        return await self._run(self._operations.score(request, self._deadline(deadline_s), path))

    async def info(self, *, deadline_s: float | None = None) -> Info:
        """Recipes, models, limits and versions of the service. Raises RewardError."""
        return await self._run(self._operations.info(self._deadline(deadline_s)))

    async def ready(self, *, deadline_s: float | None = None) -> None:
        """Return if the service can score, or else raise RewardError with the cause."""
        return await self._run(self._operations.ready(self._deadline(deadline_s)))

    async def post(self, path: str, body: bytes, *, deadline_s: float | None = None) -> bytes:
        """Post a JSON body to the route `path` of another protocol, with the retries of `score`.

        Returns the body of the response. Raises RewardError.
        """
        return await self.request("POST", path, body, deadline_s=deadline_s)

    async def request(
        self, method: str, path: str, body: bytes | None = None, *, deadline_s: float | None = None
    ) -> bytes:
        """As `post`, with another method."""
        return await self._run(self._operations.request(method, path, body, self._deadline(deadline_s)))

    async def _run(self, flow: Flow[ResultT]) -> ResultT:
        outcome: Outcome = None
        try:
            while True:
                outcome = await self._perform(flow.send(outcome))
        except StopIteration as end:
            result: ResultT = end.value
            return result
        finally:
            flow.close()

    async def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with async_deadline(step) as trace, self._http.stream(**_request(step, trace=trace)) as response:
                reader = _ResponseReader(response)
                async for chunk in response.aiter_bytes():
                    reader.add(chunk)
                return reader.response()
        except httpx.RequestError as exc:
            return TransportFailure(exc)


def _request(step: SendRequest, **extensions: Any) -> dict[str, Any]:
    """`step` as arguments for httpx."""
    timeout = httpx.Timeout(step.read_timeout_s, connect=step.connect_timeout_s, pool=step.left_s)
    return {
        "method": step.method,
        "url": step.url,
        "content": step.body,
        "headers": step.headers,
        "timeout": timeout,
        "extensions": extensions,
    }


class _ResponseReader:
    """Collects the body of a response, up to MAX_REPLY_BYTES."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._body = bytearray()

    def add(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > MAX_REPLY_BYTES:
            raise httpx.DecodingError(f"the response is larger than {MAX_REPLY_BYTES} bytes")

    def response(self) -> RawResponse:
        response = self._response
        return RawResponse(
            response.status_code, bytes(self._body), response.reason_phrase, response.headers.get("retry-after")
        )
