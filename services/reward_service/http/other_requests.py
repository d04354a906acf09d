"""Requests other than scoring: callers take turns, and each has only a few that are not answered yet.

    request ─▶ its caller's turn: a few begin in one round of the event loop ─▶ `max_other_requests`? ─▶ FastAPI
                                                                                429; health checks never

Uploads, which have a body, and other requests are counted separately: uploads that stall, of anyone behind the
same address, must not make `/info` or `/metrics` a 429.

Such a request takes up to a millisecond of the event loop: hundreds at once would delay all others by their sum.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from reward_service.admission.pipeline import too_many_parameters
from reward_service.errors import TooManyRequestsError
from reward_service.http.auth import OPEN_PATHS
from reward_service.http.request_context import RequestContext, request_context
from reward_service.telemetry.metrics import Metrics

_PER_ROUND = 2
"""Requests that begin in one round of the event loop, of all callers: about two milliseconds."""
_RETRY_S = 1.0
"""`Retry-After`: all but uploads are answered in less."""


class QueryCheck:
    """Refuses a URL with more than `most` parameters, each of which may become an error of the reply."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, scope: Scope, _: RequestContext) -> None:
        """Raise TooLargeError."""
        if scope["query_string"].count(b"&") >= self._most:
            raise too_many_parameters(self._most)


class OtherRequestsMiddleware:
    """Limits what passes `ProtocolMiddleware`.

    `most` is the number of unanswered uploads of one caller, and of its other unanswered requests.
    """

    def __init__(
        self, app: ASGIApp, most: int, error_response: Callable[[Exception], Response], metrics: Metrics
    ) -> None:
        self._app = app
        self._most = most
        self._error_response = error_response
        self._metrics = metrics
        self._turns = _Turns()
        self._unanswered: Counter[tuple[str, bool]] = Counter()
        """By caller, and whether they are uploads."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = request_context()
        await self._turns.next_of(context.caller)
        if context.path in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        key = context.caller, _has_body(context)
        if self._unanswered[key] >= self._most:
            await self._refuse("uploads" if key[1] else "requests", scope, receive, send)
            return
        self._unanswered[key] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._unanswered[key] -= 1
            if not self._unanswered[key]:
                del self._unanswered[key]

    async def _refuse(self, what: str, scope: Scope, receive: Receive, send: Send) -> None:
        error = TooManyRequestsError(
            f"{self._most} {what} of this caller that are not for scoring are being answered, which is "
            "max_other_requests; send this one again after one of them",
            _RETRY_S,
        )
        self._metrics.refused("unknown", error.cause)
        await self._error_response(error)(scope, receive, send)


def _has_body(context: RequestContext) -> bool:
    """Whether the head of a request announces a body, as an upload's does."""
    headers = context.headers
    return b"transfer-encoding" in headers or bool(headers.get(b"content-length", b"").strip(b" 0"))


class _Turns:
    """Lets requests begin, a few in each round of the event loop, and those of callers in turn."""

    def __init__(self) -> None:
        self._left = _PER_ROUND
        self._counting = False
        """Whether `_next_round` is scheduled."""
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By caller, the one that is served next first."""

    async def next_of(self, caller: str) -> None:
        """Return when a request of `caller` may begin."""
        loop = asyncio.get_running_loop()
        if not self._counting:
            self._counting = True
            loop.call_soon(self._next_round, loop)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        await turn  # a request that is cancelled meanwhile is skipped

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = _PER_ROUND
        while self._left and self._waiting:
            caller = next(iter(self._waiting))
            queue = self._waiting.pop(caller)
            turn = queue.popleft()
            if queue:
                self._waiting[caller] = queue
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._counting = self._left < _PER_ROUND
        if self._counting:
            loop.call_soon(self._next_round, loop)
