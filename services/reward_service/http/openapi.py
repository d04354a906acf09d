"""OpenAPI document: routes of the protocols from their specs, error responses, headers, authentication."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reward_client.wire import Problem
from reward_service.admission import dataset_option
from reward_service.admission.idempotency import IDEMPOTENCY_HEADER
from reward_service.admission.pipeline import DEADLINE_HEADER
from reward_service.http.auth import OPEN_PATHS
from reward_service.http.cached_bodies import CachedBodies, LargeResponse
from reward_service.http.shared_call import SharedCall
from reward_service.protocols.base import OPTIONS, EndpointSpec, NoBody, ProtocolSpec, RouteSpec

_SECONDS = {"description": "Seconds after which the same request may succeed.", "schema": {"type": "integer"}}
_CHALLENGE = {"description": "How to send an API key.", "schema": {"type": "string"}}
_HEADERS = {401: {"WWW-Authenticate": _CHALLENGE}, 429: {"Retry-After": _SECONDS}, 503: {"Retry-After": _SECONDS}}

_COMMON_HEADERS = {
    "X-Request-ID": {
        "description": "The request's id: the caller's, if it is safe to log, or a new one.",
        "schema": {"type": "string"},
    }
}
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The API key; one of the three ways is enough."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The API key."},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user name; the password is the key."},
}


_PATH_PARAMETERS = {
    "run": ("Training run that the rewards belong to, for logs and metrics.", "seed-7"),
    OPTIONS: ("Options as in a query string.", "gold=true"),
}
"""Description and example, by name."""


def _header(name: str, description: str, **kind: object) -> dict[str, Any]:
    schema = {"type": "string", **kind}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_REQUEST_HEADERS = [
    _header(
        IDEMPOTENCY_HEADER,
        "Requests with the same key and body get one reply, computed once.",
        pattern="^[!-~]{1,255}$",
    ),
    _header(
        DEADLINE_HEADER,
        "Seconds from receipt after which the caller no longer needs the reply.",
        pattern=r"^(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?$",
    ),
]


def problem(status: int) -> dict[str, Any]:
    """The error response with `status`."""
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return described | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {s: problem(s) for s in (408, 413, 415, 422, 429, 503, 504)}
"""Error responses of the protocols' routes."""


def install(app: FastAPI, protocols: Sequence[EndpointSpec[Any]], *, with_keys: bool) -> None:
    """Add `protocols`, error responses and authentication to the document that `app` generates."""
    generate, bodies = app.openapi, CachedBodies()
    made: bytes | None = None

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete_document(generate(), protocols, with_keys)
        return app.openapi_schema

    generated = SharedCall(lambda: bytes(JSONResponse(openapi()).body))

    async def document(request: Request) -> Response:
        nonlocal made
        if made is None:
            made = await generated()  # a quarter of a second, in a thread
        prefix: str = request.scope.get("root_path", "").rstrip("/")  # of the settings, or what the server has set
        body = bodies.get("openapi", prefix, partial(_with_prefix, made, prefix)) if prefix else made
        return LargeResponse(body, media_type="application/json")

    app.openapi = openapi  # type: ignore[method-assign]
    app.router.routes.insert(0, Route("/openapi.json", document, include_in_schema=False))  # before FastAPI's


def _with_prefix(document: bytes, prefix: str) -> bytes:
    """`document` for a service that is published under `prefix`."""
    return b'{"servers":' + json.dumps([{"url": prefix}]).encode() + b"," + document[1:]


def _complete_document(
    document: dict[str, Any], protocols: Sequence[EndpointSpec[Any]], with_keys: bool
) -> dict[str, Any]:
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Problem, "validation")]
    for spec in protocols:
        modes += [(spec.request_model, "validation"), (spec.reply_model, "serialization")]
    schemas, definitions = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    components = document.setdefault("components", {})
    components["schemas"] = definitions["$defs"] | components.get("schemas", {})
    for spec in protocols:
        body, reply = schemas[spec.request_model, "validation"], schemas[spec.reply_model, "serialization"]
        for route in spec.routes:
            needed = None if spec.request_model is NoBody else body
            operation = _protocol_operation(spec, route, needed, reply)
            if isinstance(spec, ProtocolSpec):
                operation["parameters"] += dataset_option.PARAMETERS
            document["paths"].setdefault(route.path, {})[route.method.lower()] = operation
    if with_keys:
        components["securitySchemes"] = _SECURITY_SCHEMES
        document["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete_operation(operation, is_open=path in OPEN_PATHS)
    return document


def _protocol_operation(
    spec: EndpointSpec[Any], route: RouteSpec, schema: Mapping[str, Any] | None, reply: Mapping[str, Any]
) -> dict[str, Any]:
    """One route of a protocol; its path parameters are strings."""
    responses: Iterable[tuple[int | str, dict[str, Any]]] = ERROR_RESPONSES.items()
    body = {"schema": schema} | ({} if spec.example is None else {"example": spec.example})
    return {
        "tags": [spec.name],
        "summary": route.summary,
        "description": route.description,
        "operationId": re.sub(r"\W+", "_", f"{spec.name}{_verb(route)}{route.path}").strip("_"),
        "parameters": [
            *map(_path_parameter, re.findall(r"{(\w+)}", route.path)),
            *_REQUEST_HEADERS,
            *route.parameters,
        ],
        **({"requestBody": {"required": True, "content": {"application/json": body}}} if schema else {}),
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": reply}}},
            **{str(status): dict(response) for status, response in responses},
        },
    }


def _verb(route: RouteSpec) -> str:
    """Part of an operation's id: a path may have several methods."""
    return "" if route.method == "POST" else f"_{route.method.lower()}"


def _path_parameter(name: str) -> dict[str, Any]:
    description, example = _PATH_PARAMETERS.get(name, ("", ""))
    described = {"description": description, "example": example} if description else {}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **described}


def _complete_operation(operation: dict[str, Any], *, is_open: bool) -> None:
    if is_open:
        operation["security"] = []
    responses = operation["responses"]
    for status in (403, 413, 500) if is_open else (401, 403, 413, 421, 429, 500):
        responses.setdefault(str(status), problem(status))
    for response in responses.values():
        response["headers"] = _COMMON_HEADERS | response.get("headers", {})
