"""Web pages of other sites: they can neither have anything scored nor read a reply. The service's own page can."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.hostile.service import ATTACKER, HostileTarget

pytestmark = pytest.mark.slow

BODY = json.dumps({"items": [{"prompt": "Why?", "response": "Because."}]})
OPENRLHF = json.dumps({"query": ["Why?Because."], "prompts": ["Why?"]})
JSON = "application/json"
SCORING = [("/score", BODY), ("/get_reward", OPENRLHF), ("/r/a-run/get_reward", OPENRLHF)]
PAGES = ["/", "/docs", "/redoc", "/info", "/metrics", "/openapi.json", "/static-offline-docs/swagger-ui.css"]


def send(
    target: HostileTarget, method: str, path: str, body: str | None = None, **headers: str
) -> http.client.HTTPResponse:
    """A request with these headers and, unless given, the service's own Host; names with `_` for `-`."""
    connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, target.headers() | names)
    return connection.getresponse()


def refused(response: http.client.HTTPResponse, status: int, word: str) -> None:
    problem: dict[str, Any] = json.loads(response.read())

    assert response.status == status, problem
    assert response.headers["content-type"] == "application/problem+json"
    assert word in problem["detail"]
    assert "access-control-allow-origin" not in response.headers


# Content types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [JSON, "application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "application/json ;a=b"],
)
@pytest.mark.parametrize(("path", "body"), SCORING)
def test_json_is_scored(open_target: HostileTarget, path: str, body: str, content_type: str) -> None:
    assert send(open_target, "POST", path, body, content_type=content_type).status == 200


@pytest.mark.parametrize(("path", "body"), SCORING)
def test_a_program_may_omit_the_content_type(open_target: HostileTarget, path: str, body: str) -> None:
    assert send(open_target, "POST", path, body).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/plain;charset=UTF-8",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "text/json",
        "application/octet-stream",
        "application/jsonp",
        "json",
        "",
    ],
)
@pytest.mark.parametrize(("path", "body"), SCORING)
def test_other_content_types_are_refused(
    open_target: HostileTarget, path: str, body: str, content_type: str
) -> None:
    refused(
        send(open_target, "POST", path, body, content_type=content_type), 415, "Content-Type: application/json"
    )


@pytest.mark.parametrize("header", [{"origin": "http://127.0.0.1"}, {"sec_fetch_site": "same-origin"}])
def test_a_browser_may_not_omit_the_content_type(open_target: HostileTarget, header: dict[str, str]) -> None:
    """A page can send a Blob without a type across sites, unasked."""
    header |= {"host": "127.0.0.1"}

    refused(send(open_target, "POST", "/score", BODY, **header), 415, "Content-Type: application/json")


# Sites -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["cross-site", "same-site", "cross-site, none", "other"])
@pytest.mark.parametrize(
    ("method", "path", "body"), [("POST", *row) for row in SCORING] + [("GET", p, None) for p in PAGES]
)
def test_pages_of_other_origins_are_refused(
    open_target: HostileTarget, method: str, path: str, body: str | None, site: str
) -> None:
    response = send(
        open_target, method, path, body, sec_fetch_site=site, sec_fetch_mode="no-cors", content_type=JSON
    )

    refused(response, 403, "another origin")


def test_a_key_that_the_browser_has_stored_does_not_score_for_another_site(target: HostileTarget) -> None:
    stored = "Basic " + base64.b64encode(f"key:{ATTACKER.key}".encode()).decode()
    for site in ({"sec_fetch_site": "cross-site"}, {"origin": "http://evil.example"}, {"origin": "null"}):
        response = send(target, "POST", "/score", BODY, authorization=stored, content_type=JSON, **site)
        refused(response, 403, "another origin")

    response = send(target, "POST", "/score", BODY, authorization=stored, content_type="text/plain")
    refused(response, 415, "application/json")
    assert send(target, "POST", "/score", BODY, authorization=stored, content_type=JSON).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://[", "http://localhost:1", "https://127.0.0.1"]
)
def test_without_sec_fetch_site_the_origin_has_to_be_the_own_host(open_target: HostileTarget, origin: str) -> None:
    refused(send(open_target, "POST", "/score", BODY, origin=origin, content_type=JSON), 403, "another origin")


def test_the_own_page_scores(open_target: HostileTarget) -> None:
    own = {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors", "origin": open_target.url}

    assert send(open_target, "POST", "/score", BODY, content_type=JSON, **own).status == 200
    assert send(open_target, "GET", "/info", **own).status == 200
    assert send(open_target, "POST", "/score", BODY, content_type=JSON, origin=open_target.url).status == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/info"])
def test_a_link_on_another_site_opens_a_page(open_target: HostileTarget, path: str) -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}

    assert send(open_target, "GET", path, sec_fetch_dest="document", **link).status == 200
    refused(send(open_target, "GET", path, sec_fetch_dest="iframe", **link), 403, "another origin")
    form = send(open_target, "POST", "/score", BODY, sec_fetch_dest="document", content_type=JSON, **link)
    refused(form, 403, "another origin")


@pytest.mark.parametrize("path", ["/score", "/get_reward", "/info", "/"])
@pytest.mark.parametrize("site", [{}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}])
def test_a_preflight_gets_no_permission(open_target: HostileTarget, path: str, site: dict[str, str]) -> None:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "content-type"}
    response = send(open_target, "OPTIONS", path, origin="http://evil.example", **asked, **site)

    assert response.status in {403, 405}
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_a_websocket_of_another_site_is_refused(open_target: HostileTarget) -> None:
    wanted = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_version": "13",
        "sec_websocket_key": "YQ==",
    }
    response = send(
        open_target, "GET", "/info", origin="http://evil.example", sec_fetch_site="cross-site", **wanted
    )

    refused(response, 403, "another origin")


# Host ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8000",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.8.8.8:80",
        "[::1]",
        "[::1]:8000",
    ],
)
@pytest.mark.parametrize("path", ["/info", "/"])
def test_loopback_names_are_answered_without_keys(open_target: HostileTarget, path: str, host: str) -> None:
    assert send(open_target, "GET", path, host=host).status == 200


ODD_HOSTS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil-localhost",
    "localhost@evil.example",
    "localhost:80@evil.example",
    "10.0.0.1",
    "[::2]:8000",
    "[::1",
    "2130706433",
    "0.0.0.0",  # noqa: S104
    "",
    ":8000",
    "a:b:c",
    "x" * 10_000,
]


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_other_names_are_refused_without_keys(open_target: HostileTarget, host: str) -> None:
    for path in PAGES:
        refused(send(open_target, "GET", path, host=host), 421, "GLASSBOX_ALLOWED_HOSTS")
    for path, body in SCORING:
        refused(send(open_target, "POST", path, body, host=host, content_type=JSON), 421, "GLASSBOX_ALLOWED_HOSTS")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_may_use_any_name(open_target: HostileTarget, path: str) -> None:
    assert send(open_target, "GET", path, host="10.1.2.3:8000").status == 200


def test_with_keys_any_name_is_answered(target: HostileTarget) -> None:
    assert send(target, "GET", "/info", host="reward.example").status == 200
