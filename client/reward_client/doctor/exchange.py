"""One request and its reply, with everything that a check needs to see: status, headers, body, time.

The client of this package retries, follows its own rules and shows only the result; a check must see a redirect, a
page of a proxy and the clock of the server as they are. Each request has a time limit, within that of all checks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import httpx

from reward_client.errors import RewardError, describe_problem, read_problem
from reward_client.flow import SendRequest
from reward_client.network import Proxy, proxies_for, trusted_certificates
from reward_client.timeouts import sync_deadline
from reward_client.transport import DeadlineTransport
from reward_client.urls import Address, ApiKey
from reward_client.wire import WIRE_VERSION, WIRE_VERSION_HEADER, Problem

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of a reply that are read; no reply to a check is as large."""
_SHOWN_CHARS = 160


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """The time for all checks together."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        """Seconds left; 0 when none are."""
        return max(0.0, self.started + self.seconds - self.clock())

    def spent_s(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    headers: httpx.Headers
    body: bytes
    seconds: float
    sent_at: float
    """Seconds since the epoch, on this machine's clock."""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_html(self) -> bool:
        """Whether it is a page for people."""
        kind = self.headers.get("content-type", "")
        return "html" in kind or self.body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html"))

    def json(self) -> Any:
        """The body as JSON; NaN and infinity are kept. None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def problem(self) -> Problem:
        """The problem document in the body, or one made of it."""
        return read_problem(self.status, "", self.body)

    def describe(self) -> str:
        """The reply in one line."""
        server = self.headers.get("server") or self.headers.get("via") or ""
        by = f" by {server}" if server else ""
        if self.is_html:
            return f"{self.status} with an HTML page{by}"
        if 300 <= self.status < 400:
            return f"{self.status}, a redirect to {self.headers.get('location', 'nowhere')}{by}"
        text = describe_problem(self.problem()) if not self.is_success else f"{self.status} {self.text()}"
        return _one_line(f"{text}{by}")

    def text(self) -> str:
        """The beginning of the body, in one line."""
        return _one_line(self.body[:1000].decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why a request has no reply."""

    cause: str
    kind: type[Exception]

    def describe(self) -> str:
        """The cause in one line."""
        return _one_line(self.cause)


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN_CHARS else f"{words[:_SHOWN_CHARS]}…"


class Service:
    """The server at one address. Close it after use."""

    def __init__(self, address: Address, limit: TimeLimit, timeout_s: float) -> None:
        """Raises RewardError when the environment names a proxy or certificates that cannot be used."""
        self.address = address
        self.limit = limit
        self.timeout_s = timeout_s
        proxies = proxies_for([address.url])
        self.proxy: Proxy | None = next(iter(proxies.values()), None)
        self.host = httpx.URL(address.url).host
        is_tls = address.url.startswith("https") or (self.proxy is not None and self.proxy.url.scheme == "https")
        context = trusted_certificates() if is_tls else None
        transport = DeadlineTransport(proxy=self.proxy, ssl_context=context)
        self._http = httpx.Client(transport=transport, follow_redirects=False, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **options: Any) -> Reply | NoReply:
        """GET `path`; options as for `send`."""
        return self.send("GET", path, **options)

    def post(self, path: str, body: Mapping[str, Any], **options: Any) -> Reply | NoReply:
        """POST `body` as JSON; options as for `send`."""
        return self.send("POST", path, json.dumps(body, allow_nan=False).encode(), **options)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: ApiKey | None = None,
        anonymous: bool = False,
        timeout_s: float | None = None,
    ) -> Reply | NoReply:
        """The reply to one request, which is sent once.

        Args:
            method: of HTTP.
            path: of the route, with its query.
            body: of a POST.
            key: to send instead of that of the address.
            anonymous: send no key.
            timeout_s: for the whole exchange; that of the service when None.
        """
        seconds = min(timeout_s or self.timeout_s, self.limit.left_s())
        if seconds <= 0:
            return NoReply("the time for all checks is over", TimeoutError)
        headers = {"content-type": "application/json", WIRE_VERSION_HEADER.lower(): str(WIRE_VERSION)}
        chosen = None if anonymous else key or self.address.key
        if chosen is not None:
            headers["authorization"] = f"Bearer {chosen.secret}"
        step = SendRequest(method, self.address.url + path, headers, body, seconds, seconds, seconds)
        started, sent_at = time.monotonic(), time.time()
        try:
            status, found, content = self._exchange(step)
        except (httpx.HTTPError, httpx.InvalidURL, RewardError, OSError, ValueError) as exc:
            return NoReply(_cause(exc), type(exc))
        return Reply(status, found, content, time.monotonic() - started, sent_at)

    def _exchange(self, step: SendRequest) -> tuple[int, httpx.Headers, bytes]:
        timeout = httpx.Timeout(step.read_timeout_s)
        content = bytearray()
        request = self._http.build_request(
            step.method, step.url, headers=dict(step.headers), content=step.body, timeout=timeout
        )
        with sync_deadline(step) as budget, closing(self._http.send(request, stream=True)) as response:
            for chunk in response.iter_bytes():
                budget.check("read")
                content += chunk
                if len(content) > MAX_BYTES:
                    raise httpx.DecodingError(f"the response is larger than {MAX_BYTES} bytes")
            return response.status_code, response.headers, bytes(content)


def _cause(exc: Exception) -> str:
    """The innermost cause in words: httpx names only its own class."""
    inner: BaseException = exc
    while (deeper := inner.__cause__ or inner.__context__) is not None and str(deeper):
        inner = deeper
    return str(exc) or str(inner) or type(exc).__name__
