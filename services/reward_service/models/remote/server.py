"""One call of a remote server: JSON in, JSON out, with retries until a time limit.

no connection, 408, 425, 429, 502, 503, 504   tried again, after Retry-After or a growing delay; when the time
                                              is over: GoldUnavailableError (503), with the cause and what to do
400, 413, 422, 424, 500                       RefusedError.may_be_item: one item may be the cause
401, 403, 404, a redirect, anything else      RefusedError, with what to do
a reply that is too large, or no JSON         BadReplyError
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Mapping
from typing import Any

import httpx

from reward_client.errors import RewardError
from reward_client.network import proxies_for, trusted_certificates
from reward_client.retry import RETRYABLE, RetryPolicy, backoff_s, parse_retry_after
from reward_service.errors import ConfigurationError, GoldUnavailableError, ModelError
from reward_service.models.remote.formats import BadReplyError

_CONNECT_S = 5.0
"""Seconds for a connection; a host that does not answer is tried again."""
_REPLY_BYTES = 64 * 1024
_REPLY_BYTES_PER_ITEM = 16 * 1024
"""Bytes of a reply, at most: a score takes less than a hundred, and a service like this one sends features."""
_MAY_BE_ITEM = frozenset({400, 413, 422, 424, 500})
_QUOTED_CHARS = 300
_RETRY_AFTER_S = 5.0
"""Until callers may try again, when the server says nothing about it."""
_POLICY = RetryPolicy(max_retry_after_s=30.0)

logger = logging.getLogger(__name__)


class RefusedError(ModelError):
    """The server answered with a status that another attempt would not change."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status

    @property
    def may_be_item(self) -> bool:
        """Whether one of the items may be the cause."""
        return self.status in _MAY_BE_ITEM


def new_client(url: str, key: str | None, in_flight: int) -> httpx.AsyncClient:
    """A client with `in_flight` pooled connections to `url`. Raises ConfigurationError for a wrong environment."""
    try:
        context = trusted_certificates()
        proxy = next(iter(proxies_for([url]).values()), None)
    except (RewardError, httpx.InvalidURL) as exc:
        raise ConfigurationError(f"--gold: {exc}") from exc
    return httpx.AsyncClient(
        headers={"authorization": f"Bearer {key}"} if key else {},
        limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
        verify=context,
        proxy=proxy.for_httpx(context) if proxy else None,
        trust_env=False,
        follow_redirects=False,
    )


class RemoteServer:
    """The server at `url`; `timeout_s` is for one call with all its attempts."""

    def __init__(self, client: httpx.AsyncClient, url: str, timeout_s: float) -> None:
        self.url = url
        self.trouble: str | None = None
        """Why the last attempt failed; None while the server answers."""
        self.refusal: str | None = None
        """Why its answers cannot be used yet, while the service starts; None otherwise."""
        self.timeout_s = timeout_s
        self._client = client

    async def post(self, path: str, body: Mapping[str, Any], n_items: int) -> Any:
        """The reply to `body`. Raises GoldUnavailableError, RefusedError or BadReplyError."""
        content = json.dumps(body).encode()
        return await self._call("POST", path, content, _REPLY_BYTES + n_items * _REPLY_BYTES_PER_ITEM)

    async def get(self, path: str) -> Any:
        """The reply of a route that describes the server. Raises as `post`."""
        return await self._call("GET", path, None, 1024 * _REPLY_BYTES_PER_ITEM)

    async def _call(self, method: str, path: str, content: bytes | None, max_bytes: int) -> Any:
        give_up, attempt = time.monotonic() + self.timeout_s, 0
        problem = f"did not answer within {self.timeout_s:g} s"
        while True:
            attempt += 1
            retry_after: float | None = None
            try:
                async with asyncio.timeout(max(0.0, give_up - time.monotonic())):
                    status, headers, received = await self._attempt(method, path, content, max_bytes)
            except TimeoutError:
                pass  # an earlier attempt's problem is more to the point
            except httpx.TransportError as exc:
                problem = f"cannot be reached ({str(exc) or type(exc).__name__})"
            else:
                if status not in RETRYABLE:
                    self._note(None)
                    return _parsed(status, received, path)
                retry_after = parse_retry_after(headers.get("retry-after"))
                problem = f"answered {status}{_quoted(received)}"
            self._note(problem)
            wait_s = backoff_s(_POLICY, attempt=attempt, retry_after_s=retry_after, jitter=random.random())
            if time.monotonic() + wait_s >= give_up:
                raise GoldUnavailableError(
                    f"the gold model's server {self.url} {problem}; tried {attempt} times. Check that it runs and "
                    "that --gold names it; requests without gold scores are not affected",
                    retry_after or _RETRY_AFTER_S,
                )
            await asyncio.sleep(wait_s)

    async def _attempt(
        self, method: str, path: str, content: bytes | None, max_bytes: int
    ) -> tuple[int, httpx.Headers, bytes]:
        request = self._client.build_request(
            method,
            f"{self.url}{path}",
            content=content,
            headers={"content-type": "application/json", "accept-encoding": "identity"},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
        )
        response = await self._client.send(request, stream=True)
        try:
            received = bytearray()
            async for part in response.aiter_bytes():
                received += part
                if len(received) > max_bytes:
                    raise BadReplyError(f"its reply to {path} has more than {max_bytes} bytes")
        finally:
            await response.aclose()
        return response.status_code, response.headers, bytes(received)

    def _note(self, trouble: str | None) -> None:
        """Log a change only, because every call in flight finds it."""
        if trouble != self.trouble:
            if trouble is None:
                logger.info("the gold model's server %s answers again", self.url)
            elif self.trouble is None:
                logger.warning("the gold model's server %s %s; trying again", self.url, trouble)
            self.trouble = trouble


def _parsed(status: int, received: bytes, path: str) -> Any:
    if status == 200:
        try:
            return json.loads(received)
        except (ValueError, RecursionError) as exc:
            raise BadReplyError(f"its reply to {path} is not JSON: {str(exc)[:_QUOTED_CHARS]}") from None
    if status in {401, 403}:  # whose body may quote the key
        raise RefusedError(status, f"it answered {status}; set GLASSBOX_GOLD_API_KEY to a key that it accepts")
    if status == 404:
        hint = "check the kind before the + of --gold, and the path of its URL; or the model's name"
    elif 300 <= status < 400:
        hint = "redirects are not followed; name the URL itself in --gold"
    else:
        hint = ""
    raise RefusedError(
        status, f"it answered {status} to {path}{_quoted(received)}" + (f"; {hint}" if hint else "")
    )


def _quoted(received: bytes) -> str:
    text = " ".join(received[: 4 * _QUOTED_CHARS].decode(errors="replace").split())[:_QUOTED_CHARS]
    return f": {text}" if text else ""
