"""`/openapi.json` and `/docs`: everything is described, and every example is answered as promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.settings import Settings
from tests.doubles import LetterEncoder
from tests.live import serving

DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = [
    (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
WITH_BODY = [
    pytest.param(method, path, operation, id=f"{method} {path}")
    for method, path, operation in OPERATIONS
    if "requestBody" in operation
]


def examples(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The media type and the example of a request body: its own, or that of its schema."""
    for media_type, content in body["content"].items():
        schema = content["schema"]
        if "$ref" in schema:
            schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        yield media_type, content["example"] if "example" in content else schema["example"]


def filled(path: str, operation: dict[str, Any]) -> str:
    """The path with the examples of its parameters."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            example = parameter.get("example", (parameter["schema"].get("examples") or [None])[0])
            path = path.replace(f"{{{parameter['name']}}}", example)
    return path


@pytest.mark.parametrize(("method", "path", "operation"), WITH_BODY)
def test_the_example_of_a_body_gets_the_promised_status(
    service: TestClient, method: str, path: str, operation: dict[str, Any]
) -> None:
    for media_type, example in examples(operation["requestBody"]):
        body = {"content": example} if isinstance(example, str) else {"json": example}
        response = service.request(method, filled(path, operation), headers={"Content-Type": media_type}, **body)

        assert response.status_code == 200, response.text


@pytest.mark.parametrize(("method", "path", "operation"), WITH_BODY)
def test_a_page_that_sends_every_default_gets_the_promised_status(
    service: TestClient, method: str, path: str, operation: dict[str, Any]
) -> None:
    """Swagger's page fills the form with the defaults of parameters, and sends them."""
    sent = {
        parameter["name"]: str(parameter["schema"]["default"])
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query" and parameter["schema"].get("default") is not None
    }
    for media_type, example in examples(operation["requestBody"]):
        body = {"content": example} if isinstance(example, str) else {"json": example}
        response = service.request(
            method, filled(path, operation), params=sent, headers={"Content-Type": media_type}, **body
        )

        assert response.status_code == 200, response.text


def test_every_field_is_described() -> None:
    nameless = [
        f"{name}.{field}"
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for field, described in schema.get("properties", {}).items()
        if not described.get("description")
    ]

    assert nameless == []


def test_every_operation_and_parameter_is_described() -> None:
    for method, path, operation in OPERATIONS:
        assert operation.get("summary"), (method, path)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (method, path, parameter["name"])


def test_the_page_asks_for_a_key_where_one_is_needed() -> None:
    open_document = create_app(Settings(default_recipe="rer")).openapi()
    closed_document = create_app(Settings(api_key="secret-key-1")).openapi()

    assert "securitySchemes" not in open_document["components"]
    assert set(closed_document["components"]["securitySchemes"]) == {"bearer", "header", "basic"}
    assert closed_document["paths"]["/score"]["post"].get("security") != []
    assert closed_document["paths"]["/healthz"]["get"]["security"] == []


@pytest.mark.parametrize(("method", "path"), [("get", "/info"), ("get", "/datasets"), ("get", "/metrics")])
def test_what_a_route_that_does_not_score_may_be_refused_with_is_described(method: str, path: str) -> None:
    assert {"413", "429"} <= set(DOCUMENT["paths"][path][method]["responses"])


def test_the_document_has_the_prefix_that_the_server_has_set() -> None:
    app = create_app(Settings(gold="none"), encoder_loader=lambda _: LetterEncoder())

    def servers(client: TestClient, prefix: str) -> Any:
        return client.get(f"{prefix}/openapi.json").json().get("servers")

    with (
        TestClient(app, "http://localhost") as plain,
        TestClient(app, "http://localhost", root_path="/a") as below,
    ):
        assert [servers(plain, ""), servers(below, "/a"), servers(plain, "")] == [None, [{"url": "/a"}], None]


def test_the_page_and_its_scripts_are_served_with_a_path_prefix() -> None:
    with serving(Settings(root_path="/glassbox")) as url:
        page = httpx.get(f"{url}/glassbox/docs").text
        assets = [
            part.split('"')[0] for part in page.split('="')[1:] if "static-offline-docs" in part.split('"')[0]
        ]

        assert "/glassbox/openapi.json" in page
        assert len(assets) >= 2
        for asset in assets:
            assert httpx.get(f"{url}{asset}").status_code == 200, asset
