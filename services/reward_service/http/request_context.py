"""Request context: id, trace context, arrival time and headers of the request being served; and its middleware.

    X-Request-ID (the caller's if it is safe to log, else a new one) ─┬─▶ response headers
    traceparent  (W3C Trace Context, passed on unchanged)            ─┴─▶ log lines, problem documents

`RequestContextMiddleware` is the outermost middleware. It sets the context, makes the checks that need only the
head of the request (`browser`, `auth`), adds the security headers, answers unexpected exceptions, measures the
request for `/metrics` and writes the access log. A log line has the pattern of the route, but no path, query or
body, because any of them may contain a secret.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_service.errors import GlassboxError
from reward_service.fair_share import caller_address
from reward_service.telemetry.metrics import Metrics

logger = logging.getLogger("reward_service.access")

LOG_FORMAT = "%(asctime)s level=%(levelname)s logger=%(name)s request_id=%(request_id)s %(message)s"

_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""Ids that need no quoting in a log line or a header; longer than any id in use."""
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_SECURITY_HEADERS = (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")
_PROBES = frozenset({"/healthz", "/readyz", "/health", "/metrics"})
"""Routes that orchestrators and Prometheus request every few seconds."""
_NO_CONTENT = b"default-src 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src blob:; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
_POLICIES = {"/docs": _DOCS_POLICY, "/redoc": _DOCS_POLICY}
"""Content security policy of FastAPI's pages, which have inline scripts; they load nothing from other hosts."""


@dataclass(slots=True)
class RequestContext:
    """The request that the current task serves."""

    id: str
    path: str
    """Without the prefix `root_path`."""
    traceparent: str | None
    headers: Mapping[bytes, bytes]
    """By lower-case name; the first of repeated headers counts."""
    caller: str = "local"
    """Who capacity is shared with: the client's address, or what `AuthCheck` puts here for its API key."""
    received: float = field(default_factory=time.monotonic)
    """On the clock of `time.monotonic`, which the event loop uses too."""
    limit: asyncio.Timeout | None = None
    """Ends the request at its deadline, once that is known."""


_NO_REQUEST = RequestContext("-", "", None, {})
_current: ContextVar[RequestContext] = ContextVar("request_context", default=_NO_REQUEST)
request_context = _current.get
"""The context of the request that the current task serves; outside of requests its id is `-`."""


def route_pattern(scope: Scope) -> str:
    """Pattern of the route that matched, for metrics and logs."""
    pattern: str = getattr(scope.get("route"), "path", "unknown")
    return pattern


class RequestIdFilter(logging.Filter):
    """Gives every log record the `request_id` that `LOG_FORMAT` refers to."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_context().id
        return True


Check = Callable[[Scope, RequestContext], None]
"""A check of a request's head. Raises GlassboxError to refuse it before its body is read."""


class RequestContextMiddleware:
    """Sets the request context; checks, measures and logs the request. Pure ASGI: buffers nothing.

    Args:
        app: the rest of the application.
        checks: made in this order.
        error_response: the response for a refusal, or for an unexpected exception.
        metrics: count requests and refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        checks: Sequence[Check],
        error_response: Callable[[Exception], Response],
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._checks = checks
        self._error_response = error_response
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no route has one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _context_of(scope)
        token = _current.set(context)
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, context)
            await send(message)

        try:
            app = self._refusal(scope, context) or self._app
            await app(scope, receive, send_with_headers)
        except Exception as exc:
            self._metrics.refused(route_pattern(scope), GlassboxError.cause)
            if status is None:
                await self._error_response(exc)(scope, receive, send_with_headers)
            raise
        except asyncio.CancelledError:  # the shutdown timeout has passed
            logger.warning("cancelled by shutdown: %s", _log_line(scope, context, status))
            raise
        else:
            level = logging.DEBUG if context.path in _PROBES else logging.INFO
            if logger.isEnabledFor(level):
                logger.log(level, "%s", _log_line(scope, context, status))
        finally:
            self._metrics.answered(route_pattern(scope), status or 500, time.monotonic() - context.received)
            _current.reset(token)

    def _refusal(self, scope: Scope, context: RequestContext) -> Response | None:
        try:
            for check in self._checks:
                check(scope, context)
        except GlassboxError as exc:
            self._metrics.refused("unknown", exc.cause)
            return self._error_response(exc)
        return None


def _route_path(scope: Scope) -> str:
    """The path without the prefix `root_path`, which some proxies remove and which ASGI requires in the scope."""
    path: str = scope["path"]
    if prefix := scope.get("root_path"):
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
        scope["path"] = prefix + path
    return path


def _context_of(scope: Scope) -> RequestContext:
    headers = dict(reversed(scope["headers"]))
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    parent = headers.get(b"traceparent", b"").decode("latin-1")
    return RequestContext(
        path=_route_path(scope),
        id=given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex,
        traceparent=parent if _TRACEPARENT.fullmatch(parent) else None,
        headers=headers,
        caller=caller_address(scope["client"][0]) if scope.get("client") else "local",
    )


def _add_headers(message: Message, context: RequestContext) -> None:
    """Add request id, trace context, and the security headers that the response does not have."""
    headers: list[tuple[bytes, bytes]] = list(message["headers"])
    present = {name for name, _ in headers}
    headers.append((b"x-request-id", context.id.encode()))
    if context.traceparent:
        headers.append((b"traceparent", context.traceparent.encode()))
    policy = b"content-security-policy", _POLICIES.get(context.path, _NO_CONTENT)
    headers += (header for header in (*_SECURITY_HEADERS, policy) if header[0] not in present)
    message["headers"] = headers


def _log_line(scope: Scope, context: RequestContext, status: int | None) -> str:
    milliseconds = (time.monotonic() - context.received) * 1e3
    line = f"method={scope['method']} route={route_pattern(scope)} status={status} ms={milliseconds:.1f}"
    return f"{line} traceparent={context.traceparent}" if context.traceparent else line
