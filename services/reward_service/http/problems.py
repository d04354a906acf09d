"""Errors to HTTP, once: every domain error has a status here, and every answer that is no success is RFC 9457."""

from __future__ import annotations

import logging
import math
from contextvars import ContextVar
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from reward_client.wire import FieldError, Problem
from reward_service.errors import (
    ConfigurationError,
    DeadlineError,
    DrainingError,
    GlassboxError,
    InvalidRequestError,
    ModelError,
    NoRoomError,
    NotReadyError,
    OverloadedError,
    SlowBodyError,
    TooLargeError,
    UnavailableError,
)
from reward_service.telemetry.admission_metrics import AdmissionMetrics

__all__ = ["CLIENT_GONE", "STATUS", "answer_to", "bug_response", "install", "problem_response", "request_id"]

logger = logging.getLogger(__name__)

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id that a problem document carries."""

CLIENT_GONE = 499
"""Status in logs and metrics of a call whose caller hung up; nobody receives it."""

STATUS: dict[type[GlassboxError], HTTPStatus] = {
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    SlowBodyError: HTTPStatus.REQUEST_TIMEOUT,
    NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    OverloadedError: HTTPStatus.TOO_MANY_REQUESTS,
    NoRoomError: HTTPStatus.SERVICE_UNAVAILABLE,
    DrainingError: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
    ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    GlassboxError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The nearest class in an error's ancestry decides."""


def install(app: FastAPI, metrics: AdmissionMetrics) -> None:
    """Make `app` answer every error with a problem document, and count it by cause."""
    app.state.admission_metrics = metrics
    app.add_exception_handler(GlassboxError, _glassbox_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)


def problem_response(
    status: int, detail: str, errors: list[FieldError] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem document as a response."""
    members = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, "errors": errors or []}
    problem = Problem.model_validate(members | {"request_id": request_id.get()})
    content = problem.model_dump_json(exclude_none=True)
    return Response(content, status, headers, media_type="application/problem+json")


def bug_response(exc: Exception) -> Response:
    """The answer to what should never happen."""
    logger.error("bug while answering a request", exc_info=exc)
    return problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"a bug in the service ({type(exc).__name__}); its log has the trace"
    )


def answer_to(request: Request, exc: GlassboxError) -> Response:
    """The problem document that tells `request`'s caller of `exc`, which is counted by its cause."""
    status = next(STATUS[kind] for kind in type(exc).__mro__ if kind in STATUS)
    headers = {"retry-after": str(math.ceil(exc.retry_after_s))} if isinstance(exc, UnavailableError) else None
    _count(request, exc.cause)
    return problem_response(status, str(exc), getattr(exc, "errors", None), headers)


async def _glassbox_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, GlassboxError)  # noqa: S101 (tells mypy what the registration says)
    return answer_to(request, exc)


async def _http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 (tells mypy what the registration says)
    _count(request, f"http_{exc.status_code}")
    return problem_response(exc.status_code, str(exc.detail), headers=dict(exc.headers or {}))


async def _validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)  # noqa: S101 (tells mypy what the registration says)
    errors = [FieldError(field=".".join(map(str, e["loc"])), message=e["msg"]) for e in exc.errors()]
    _count(request, "invalid")
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, "the request has wrong parameters", errors)


async def _client_gone(request: Request, _: Exception) -> Response:
    _count(request, "client_gone")
    return Response(status_code=CLIENT_GONE)


def _count(request: Request, cause: str) -> None:
    route = getattr(request.scope.get("route"), "path", "unknown")
    request.app.state.admission_metrics.refused(route, cause)
