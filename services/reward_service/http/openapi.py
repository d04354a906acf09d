"""The API's description (OpenAPI), told in full: bodies that routes parse themselves, refusals, headers, keys."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from reward_client.wire import WIRE_VERSION_HEADER, Problem
from reward_service.admission.idempotency import HEADER as IDEMPOTENCY_HEADER
from reward_service.admission.pipeline import DEADLINE_HEADER
from reward_service.http.auth import OPEN

__all__ = ["ERROR_RESPONSES", "WIRE_VERSION_PARAMETER", "install", "request_body"]

_SECONDS = {"description": "Seconds after which the same request may succeed.", "schema": {"type": "integer"}}
_CHALLENGE = {"description": "How a key is sent.", "schema": {"type": "string"}}
_HEADERS = {401: {"WWW-Authenticate": _CHALLENGE}, 429: {"Retry-After": _SECONDS}, 503: {"Retry-After": _SECONDS}}

_COMMON_HEADERS = {
    "X-Request-ID": {
        "description": "The request's own, when it is safe to log, or one made for it.",
        "schema": {"type": "string"},
    }
}
_WAYS_IN = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user name; the password is the key."},
}


def _header(name: str, description: str, **kind: object) -> dict[str, Any]:
    schema = {"type": "string", **kind}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_ASKED = [
    _header(
        IDEMPOTENCY_HEADER, "The same key and request get one reply, computed once.", pattern="^[!-~]{1,255}$"
    ),
    _header(
        DEADLINE_HEADER,
        "Seconds from receipt after which nobody wants the answer.",
        pattern=r"^(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?$",
    ),
]


def _problem(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return described | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {s: _problem(s) for s in (408, 413, 422, 429, 503, 504)}
"""How scoring may end, besides with a reply."""


WIRE_VERSION_PARAMETER = _header(
    WIRE_VERSION_HEADER,
    "Wire version of the client; the reply holds nothing newer. The service's own when absent.",
    pattern="^[1-9][0-9]{0,5}$",
)


def request_body(schema: str, *headers: dict[str, Any]) -> dict[str, Any]:
    """The body and headers of a route that reads them itself."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        },
        "parameters": [*_ASKED, *headers],
    }


def install(app: FastAPI, bodies: Sequence[type[BaseModel]], *, with_keys: bool) -> None:
    """Make `app` describe itself in full; `bodies` are those that routes parse themselves."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(generate(), bodies, with_keys)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any], bodies: Sequence[type[BaseModel]], with_keys: bool) -> dict[str, Any]:
    modes = [(body, "validation") for body in (*bodies, Problem)]
    _, definitions = models_json_schema(modes, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components = document.setdefault("components", {})
    components["schemas"] = definitions["$defs"] | components.get("schemas", {})
    if with_keys:
        components["securitySchemes"] = _WAYS_IN
        document["security"] = [{name: []} for name in _WAYS_IN]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, is_open=path in OPEN)
    return document


def _complete(operation: dict[str, Any], *, is_open: bool) -> None:
    if is_open:
        operation["security"] = []
    answers = operation["responses"]
    for status in (500,) if is_open else (401, 500):
        answers.setdefault(str(status), _problem(status))
    for answer in answers.values():
        answer["headers"] = _COMMON_HEADERS | answer.get("headers", {})
