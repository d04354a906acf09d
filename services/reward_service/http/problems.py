"""Mapping of errors to HTTP responses: a status for every domain error, and RFC 9457 problem documents."""

import logging
import math
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from reward_client.wire import FieldError, Problem
from reward_service.errors import (
    MAX_ERRORS,
    ConfigurationError,
    CrossSiteError,
    DeadlineError,
    DrainingError,
    GlassboxError,
    GoldUnavailableError,
    InvalidRequestError,
    MediaTypeError,
    ModelError,
    NoRoomError,
    NotReadyError,
    OverloadedError,
    SlowBodyError,
    SlowDiskError,
    StorageError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnknownDatasetError,
    UnknownHostError,
)
from reward_service.http.request_context import request_context, route_pattern
from reward_service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499
"""Status in logs and metrics of a request whose client disconnected; it is never received."""

MAX_PROBLEM_BYTES = 64 * 1024
"""Bytes of an error reply, whatever the request was."""
_MAX_CHARS = {"field": 300, "message": 500, "id": 256}
"""Characters of the parts of an error; keys and values of the caller, which are in them, may have megabytes."""
_MAX_DETAIL_CHARS = 2_000
_BEARER = 'Bearer realm="glassbox"'
_CHALLENGE = f'Basic realm="glassbox", charset="UTF-8", {_BEARER}'

STATUS: dict[type[GlassboxError], HTTPStatus] = {
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnknownDatasetError: HTTPStatus.NOT_FOUND,
    SlowBodyError: HTTPStatus.REQUEST_TIMEOUT,
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    CrossSiteError: HTTPStatus.FORBIDDEN,
    UnknownHostError: HTTPStatus.MISDIRECTED_REQUEST,
    NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    OverloadedError: HTTPStatus.TOO_MANY_REQUESTS,
    TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    NoRoomError: HTTPStatus.SERVICE_UNAVAILABLE,
    GoldUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    DrainingError: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
    SlowDiskError: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    GlassboxError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Status by error class; the nearest class in an error's ancestry applies."""


def install(app: FastAPI, metrics: Metrics) -> None:
    """Make `app` answer every error with a problem document, and count it by cause."""

    async def glassbox_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, GlassboxError)  # noqa: S101 (for mypy)
        metrics.refused(route_pattern(request.scope), exc.cause, exc.caller_class)
        return error_response(exc)

    async def http_exception(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101 (for mypy)
        metrics.refused(route_pattern(request.scope), f"http_{exc.status_code}")
        return problem_response(exc.status_code, str(exc.detail), headers=dict(exc.headers or {}))

    async def validation_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)  # noqa: S101 (for mypy)
        errors = [
            FieldError(field=".".join(map(str, e["loc"])), message=e["msg"]) for e in exc.errors()[:MAX_ERRORS]
        ]
        metrics.refused(route_pattern(request.scope), "invalid")
        return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, "the request has wrong parameters", errors)

    app.add_exception_handler(GlassboxError, glassbox_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(RequestValidationError, validation_error)


def problem_response(
    status: int, detail: str, errors: Sequence[FieldError] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem document as a response, of at most `MAX_PROBLEM_BYTES`."""
    detail, kept = _shortened(detail, _MAX_DETAIL_CHARS), _kept(errors or [])
    if errors and len(kept) < len(errors):
        detail += f" ({len(errors) - len(kept)} more errors are left out)"
    members = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "errors": kept}
    problem = Problem.model_validate(members | {"request_id": request_context().id})
    content = problem.model_dump_json(exclude_none=True)
    return Response(content, status, headers, media_type="application/problem+json")


def _kept(errors: Sequence[FieldError]) -> list[FieldError]:
    """The first of `errors`, with shortened texts, that fit one reply beside its other members."""
    kept: list[FieldError] = []
    room = MAX_PROBLEM_BYTES - 8 * _MAX_DETAIL_CHARS
    for error in errors[:MAX_ERRORS]:
        texts = {name: _shortened(getattr(error, name) or "", most) for name, most in _MAX_CHARS.items()}
        kept.append(error.model_copy(update=texts | {"id": texts["id"] or error.id}))
        room -= len(kept[-1].model_dump_json().encode()) + 1
        if room < 0:
            return kept[:-1]
    return kept


def _shortened(text: str, max_chars: int) -> str:
    """The start of `text`, as valid Unicode: an unpaired surrogate becomes a question mark."""
    if len(text) <= max_chars and text.isascii():
        return text
    return (text[:max_chars] + "…" * (len(text) > max_chars)).encode(errors="replace").decode()


def error_response(exc: Exception) -> Response:
    """The problem document for `exc`; one that is no GlassboxError is a bug."""
    if not isinstance(exc, GlassboxError):
        logger.error("bug while answering a request", exc_info=exc)
        detail = f"a bug in the service ({type(exc).__name__}); its log has the trace"
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
    headers = None
    if isinstance(exc, UnavailableError):
        headers = {"retry-after": str(math.ceil(exc.retry_after_s))}
    elif isinstance(exc, UnauthorizedError):
        is_script = request_context().headers.get(b"sec-fetch-dest") == b"empty"
        headers = {"www-authenticate": _BEARER if is_script else _CHALLENGE}  # for Basic, browsers open a dialog
    status = next(STATUS[kind] for kind in type(exc).__mro__ if kind in STATUS)
    return problem_response(status, str(exc), getattr(exc, "errors", None), headers)
