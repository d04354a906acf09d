"""Every request has an id: in its answer, in its error document, and in every log line written on its behalf.

    X-Request-ID (theirs, when it is safe to log, else ours) ─┬─▶ the answer's X-Request-ID and traceparent
    traceparent  (W3C Trace Context; passed on as it came)   ─┴─▶ log lines, `request_id` of problem documents

The outermost middleware: it also puts the security headers on every answer, answers bugs, and logs one line per
request. That line has the route's pattern and never the path, a query or a body: any of them may hold a secret.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_service.http.headers import header_dict
from reward_service.http.problems import bug_response, request_id

__all__ = ["LOG_FORMAT", "RequestContext", "RequestContextMiddleware", "RequestIdFilter", "request_context"]

logger = logging.getLogger("reward_service.access")

LOG_FORMAT = "%(asctime)s level=%(levelname)s logger=%(name)s request_id=%(request_id)s %(message)s"

_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What may stand in a log line and a header without quoting; longer than any id in use."""
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_ALWAYS = (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")
_CLOSED = b"default-src 'none'; frame-ancestors 'none'"
_DOCS = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src blob:; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
_POLICIES = {"/docs": _DOCS, "/redoc": _DOCS}
"""Pages that are not ours bring scripts of their own; they load nothing from elsewhere."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What is known of a request from its first moment."""

    id: str
    traceparent: str | None
    received: float = field(default_factory=time.monotonic)
    """On the clock of time.monotonic, which is the event loop's too."""


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def request_context() -> RequestContext:
    """The request that this task works for; one of its own outside requests."""
    return _current.get() or RequestContext("-", None)


def _begin(scope: Scope) -> RequestContext:
    headers = header_dict(scope)
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    parent = headers.get(b"traceparent", b"").decode("latin-1")
    return RequestContext(
        id=given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex,
        traceparent=parent if _TRACEPARENT.fullmatch(parent) else None,
    )


class RequestIdFilter(logging.Filter):
    """Gives every log record the `request_id` that `LOG_FORMAT` writes."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_context().id
        return True


class RequestContextMiddleware:
    """Names, dresses and logs every request; pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        this = _begin(scope)
        current, named = _current.set(this), request_id.set(this.id)
        status: int | None = None

        async def dress(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _dress(message, this, scope["path"])
            await send(message)

        try:
            await self._app(scope, receive, dress)
        except Exception as exc:
            if status is None:
                await bug_response(exc)(scope, receive, dress)
            raise
        except asyncio.CancelledError:  # the service stops, and has waited long enough
            logger.warning("given up on a request because the service stops: %s", _line(scope, this, status))
            raise
        else:
            logger.info("%s", _line(scope, this, status))
        finally:
            _current.reset(current)
            request_id.reset(named)


def _dress(message: Message, this: RequestContext, path: str) -> None:
    """Give the answer its names, which nobody else does; what it says of its own security stands."""
    headers: list[tuple[bytes, bytes]] = list(message["headers"])
    present = dict(headers)
    headers.append((b"x-request-id", this.id.encode()))
    if this.traceparent:
        headers.append((b"traceparent", this.traceparent.encode()))
    policy = b"content-security-policy", _POLICIES.get(path, _CLOSED)
    headers += (header for header in (*_ALWAYS, policy) if header[0] not in present)
    message["headers"] = headers


def _line(scope: Scope, this: RequestContext, status: int | None) -> str:
    route = getattr(scope.get("route"), "path", "unknown")
    line = (
        f"method={scope['method']} route={route} status={status} ms={(time.monotonic() - this.received) * 1e3:.1f}"
    )
    return f"{line} traceparent={this.traceparent}" if this.traceparent else line
