"""Errors to HTTP, once: every domain error has a status here, and every answer that is no success is RFC 9457."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from reward_client.wire import FieldError, Problem
from reward_service.errors import (
    ConfigurationError,
    GlassboxError,
    InvalidRequestError,
    ModelError,
    NotReadyError,
    OverloadedError,
    TooLargeError,
    UnavailableError,
)

__all__ = ["STATUS", "install", "problem_response"]

logger = logging.getLogger(__name__)

STATUS: dict[type[GlassboxError], HTTPStatus] = {
    InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    OverloadedError: HTTPStatus.TOO_MANY_REQUESTS,
    ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    GlassboxError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The nearest class in an error's ancestry decides."""


def install(app: FastAPI) -> None:
    """Make `app` answer every error with a problem document."""
    app.add_exception_handler(GlassboxError, _glassbox_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _bug)


def problem_response(
    status: int, detail: str, errors: list[FieldError] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem document as a response."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    return Response(
        problem.model_dump_json(exclude_none=True), status, headers, media_type="application/problem+json"
    )


async def _glassbox_error(_: Request, exc: Exception) -> Response:
    status = next(STATUS[kind] for kind in type(exc).__mro__ if kind in STATUS)
    headers = {"retry-after": str(math.ceil(exc.retry_after_s))} if isinstance(exc, UnavailableError) else None
    return problem_response(status, str(exc), getattr(exc, "errors", None), headers)


async def _http_exception(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 (tells mypy what the registration says)
    return problem_response(exc.status_code, str(exc.detail), headers=dict(exc.headers or {}))


async def _validation_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)  # noqa: S101 (tells mypy what the registration says)
    errors = [FieldError(field=".".join(map(str, e["loc"])), message=e["msg"]) for e in exc.errors()]
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, "the request has wrong parameters", errors)


async def _bug(request: Request, exc: Exception) -> Response:
    logger.error("bug while answering %s %s", request.method, request.url.path, exc_info=exc)
    return problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"a bug in the service ({type(exc).__name__}); its log has the trace"
    )
