"""Authentication: every route, every way to send a key, and attempts to bypass the check."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_service.app import create_app
from reward_service.errors import ConfigurationError
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LengthGold, LetterEncoder
from tests.live import item, raw, serving

KEY = "sesame-9f27c1d4"
OTHER = "barley-51b0aa37"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"key:{password}".encode()).decode()


def app_with(**settings: Any) -> Any:
    return create_app(
        Settings(**settings), encoder_loader=lambda _: LetterEncoder(), gold_loader=lambda _: LengthGold()
    )


@pytest.fixture(scope="module")
def guarded() -> Iterator[TestClient]:
    with TestClient(app_with(api_key=KEY), "http://localhost", raise_server_exceptions=False) as client:
        client.headers["x-api-key"] = KEY
        wait_until_loaded(client)
        del client.headers["x-api-key"]
        yield client


def test_a_scraper_with_a_key_may_use_any_host_name_for_the_metrics() -> None:
    app = app_with(api_key=KEY, allowed_hosts="reward.example")
    with TestClient(app, "http://service:8000", headers={"x-api-key": KEY}) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/info").status_code == 421
        assert client.get("/metrics", headers={"x-api-key": OTHER}).status_code in {401, 421}


@pytest.fixture(scope="module")
def guarded_url() -> Iterator[str]:
    with serving(Settings(api_key=KEY)) as url:
        yield url


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"authorization": basic(KEY)},
        {"x-api-key": KEY},
        {"x-api-key": OTHER, "authorization": f"Bearer {KEY}"},
    ],
    ids=["Bearer", "bearer", "Basic", "X-API-Key", "one of two"],
)
def test_a_key_is_accepted_in_every_documented_header(guarded: TestClient, headers: dict[str, str]) -> None:
    assert guarded.post("/score", json={"items": [item()]}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {OTHER}"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"authorization": KEY},
        {"authorization": f"Digest {KEY}"},
        {"authorization": basic(OTHER)},
        {"authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()},
        {"authorization": "Basic " + base64.b64encode(KEY.encode()).decode()},
        {"authorization": "Basic %%%"},
        {"x-api-key": ""},
        {"x-api-key": f"{KEY},{OTHER}"},
        {"api-key": KEY},
        {"cookie": f"key={KEY}"},
        {"x-forwarded-for": "127.0.0.1"},
    ],
)
def test_other_credentials_are_refused(guarded: TestClient, headers: dict[str, str]) -> None:
    refused = guarded.post("/score", json={"items": [item()]}, headers=headers)

    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert "Basic" in refused.headers["www-authenticate"]
    assert "X-API-Key" in refused.json()["detail"]
    assert KEY not in refused.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/score"),
        ("POST", "/get_reward"),
        ("POST", "/r/run/get_reward"),
        ("GET", "/metrics"),
        ("GET", "/info"),
        ("GET", "/docs"),
        ("GET", "/redoc"),
        ("GET", "/docs/oauth2-redirect"),
        ("GET", "/openapi.json"),
        ("GET", "/static-offline-docs/swagger-ui.css"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/score"),
        ("GET", f"/info?key={KEY}"),
    ],
)
def test_every_route_except_the_health_checks_and_the_page_requires_a_key(
    guarded: TestClient, method: str, path: str
) -> None:
    assert guarded.request(method, path).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health", "/"])
def test_health_checks_and_the_page_require_no_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_a_script_of_the_page_gets_no_challenge_that_opens_the_browsers_own_dialog(guarded: TestClient) -> None:
    for_script = guarded.get("/info", headers={"sec-fetch-dest": "empty"})

    assert for_script.status_code == 401
    assert "Basic" not in for_script.headers["www-authenticate"]


@pytest.mark.parametrize(
    "target",
    [
        "//score",
        "/score/",
        "/SCORE",
        "/%73core",
        "/healthz/../score",
        "/healthz/..%2fscore",
        "/healthz%2f..%2fscore",
        "/healthz/%2e%2e/score",
        "/./score",
        "/%2e/score",
        "/score;/healthz",
        "/score%00/healthz",
        "/score?/healthz",
        "/score#/healthz",
        "/healthz/",
        "/static-offline-docs/../score",
        "/static-offline-docs/..%2f..%2fapp.py",
        "http://x/score",
        "*",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_no_form_of_a_path_bypasses_authentication(guarded_url: str, method: str, target: str) -> None:
    assert raw(guarded_url, method, target).status in {400, 401}


@pytest.mark.parametrize(
    "header", ["X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-Prefix"]
)
def test_no_header_changes_the_path(guarded_url: str, header: str) -> None:
    assert raw(guarded_url, "POST", "/score", {header: "/healthz"}).status == 401
    assert raw(guarded_url, "GET", "/healthz", {header: "/score"}).status == 200


async def call(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def test_a_request_without_a_key_is_refused_before_its_body_is_read(guarded: TestClient) -> None:
    """Calls the ASGI application with a `receive` that fails."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": []}
    asyncio.run(call(guarded.app, scope, receive, send))

    assert sent[0]["status"] == 401


def test_a_websocket_is_closed(guarded: TestClient) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/healthz", "headers": []}
    asyncio.run(call(guarded.app, scope, receive, send))

    assert [message["type"] for message in sent] == ["websocket.close"]


# Key files ------------------------------------------------------------------------------------------------------


def status(client: TestClient, key: str) -> int:
    code: int = client.get("/info", headers={"x-api-key": key}).status_code
    return code


def replace(file: Path, text: str) -> None:
    """Write a file atomically, as secret stores do."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def test_keys_rotate_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the trainer\n\n  {KEY}  \n")
    with TestClient(app_with(api_keys_file=file), "http://localhost") as client:
        assert (status(client, KEY), status(client, OTHER)) == (200, 401)
        replace(file, f"{KEY}\n{OTHER}\n")
        assert (status(client, KEY), status(client, OTHER)) == (200, 200)
        replace(file, f"{OTHER}\n")
        assert (status(client, KEY), status(client, OTHER)) == (401, 200)


@pytest.mark.parametrize("content", [b"", b"# none\n", b"\xff\xfe\n", b"two words\n", None])
def test_an_invalid_key_file_leaves_the_previous_keys_valid(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    with TestClient(app_with(api_keys_file=file), "http://localhost") as client:
        file.unlink()
        if content is not None:
            file.write_bytes(content)

        assert (status(client, KEY), status(client, "two words"), status(client, "")) == (200, 401, 401)
    assert caplog.text.count("stay valid") == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no key"),
        (b"# a comment\n", "has no key"),
        (b"\xff\n", "not UTF-8"),
        (b"a\nb c\n", "key 2"),
        (b"a\n'b'\n", "key 2 of .* quotation"),
    ],
)
def test_an_invalid_key_file_at_start_is_an_error_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=reason):
        app_with(api_keys_file=file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        app_with(api_keys_file=tmp_path / "absent")


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o604, True), (0o640, False), (0o400, False)])
def test_a_key_file_that_every_user_can_read_is_logged(
    tmp_path: Path, mode: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    file.chmod(mode)

    app_with(api_keys_file=file)

    assert ("every user of this machine" in caplog.text) is warned
    assert KEY not in caplog.text


# Public addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "reward.example", "127.0.0.1.example"])  # noqa: S104
def test_a_public_address_requires_a_key_or_allow_anonymous(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"GLASSBOX_API_KEY.*--allow-anonymous"):
        app_with(host=host)
    app_with(host=host, api_key=KEY)
    app_with(host=host, allow_anonymous=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_requires_no_key(host: str) -> None:
    app_with(host=host)


# Secrets --------------------------------------------------------------------------------------------------------


def test_keys_are_neither_logged_nor_returned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "keys"
    file.write_text(OTHER)
    settings = Settings(api_key=KEY, api_keys_file=file)
    seen = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
    with serving(settings) as url:
        secret_url = url.replace("http://", f"http://key:{KEY}@")
        calls: list[dict[str, Any]] = [
            {"method": "POST", "url": f"{secret_url}/score", "json": {"items": [item()]}},
            {"method": "POST", "url": f"{secret_url}/score", "json": {"items": []}},
            {"method": "POST", "url": f"{secret_url}/score", "json": {"items": [item("BOOM")]}},
            {"method": "POST", "url": f"{secret_url}/get_reward", "json": {"query": "a?b", "prompts": "a?"}},
            {"method": "GET", "url": f"{url}/info?api_key={KEY}"},
            {"method": "GET", "url": f"{url}/info", "headers": {"authorization": f"Bearer {KEY}x"}},
            {"method": "GET", "url": f"{url}/info", "headers": {"x-api-key": OTHER}},
            {"method": "GET", "url": f"{url}/nowhere", "headers": {"x-api-key": OTHER}},
            {"method": "GET", "url": f"{url}/{KEY}"},
            {"method": "GET", "url": f"{secret_url}/metrics"},
            {"method": "GET", "url": f"{secret_url}/openapi.json"},
            {"method": "GET", "url": f"{secret_url}/"},
        ]
        for call in calls:
            response = httpx.request(**call)
            seen += [response.text, str(response.headers)]
        file.write_text(f"{OTHER} {OTHER}")
        seen.append(httpx.get(f"{secret_url}/info").text)
    messages = [
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    ]
    seen += messages

    assert len(messages) > len(calls)
    assert [text for text in seen if KEY in text or OTHER in text] == []


def test_a_request_with_more_keys_than_four_is_refused_even_if_one_is_valid() -> None:
    app = create_app(Settings(encoder="none", gold="none", api_key="sesame-0123456789"))
    valid = ("x-api-key", "sesame-0123456789")
    with TestClient(app, "http://localhost") as client:
        accepted = client.get("/datasets", headers=[("x-api-key", "wrong-0123456789")] * 3 + [valid])
        refused = client.get("/datasets", headers=[valid] * 5)

    assert accepted.status_code == 200
    assert refused.status_code == 401
    assert "more than 4 API keys" in refused.json()["detail"]
