"""HTTP/1.1 as rare clients speak it: upgrades, pipelining, half-closed connections, Expect, odd paths."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from reward_service.process.http_protocol import MAX_DISCARDED_BYTES
from tests.api.hostile.service import HostileTarget, started
from tests.live import until

pytestmark = pytest.mark.slow

BODY = json.dumps({"items": [{"prompt": "Why?", "response": "Because."}]}).encode()
OPENRLHF = json.dumps({"query": ["Why?Because."], "prompts": ["Why?"]}).encode()
STATUS = re.compile(rb"HTTP/1\.1 (\d+)")


@contextmanager
def connected(target: HostileTarget) -> Iterator[socket.socket]:
    where = urlsplit(target.url)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=30) as connection:
        yield connection


def post(body: bytes = BODY, *headers: str, path: str = "/score", chunked: bool = False) -> bytes:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", length, *headers]
    if chunked:
        body = b"%x\r\n%s\r\n3;x=y\r\n%s\r\n0\r\nTrailer: a\r\n\r\n" % (len(body) - 3, body[:-3], body[-3:])
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers]).encode() + b"\r\n\r\n"


def rest(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received


def final_statuses(received: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(received) if status != b"100"]


def response_of(connection: socket.socket) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response


# Upgrades --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"],
        ["Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: YQ=="],
        ["Connection: Upgrade", "Upgrade: TLS/1.2, HTTP/2.0"],
        ["Upgrade: h2c", "Connection: keep-alive, Upgrade"],
        ["Connection: Upgrade", "Upgrade: h2c", "Upgrade: foo/2"],
        ["Connection: Upgrade", "Upgrade: "],
        ["Connection: Upgrade"],
        ["Upgrade: h2c"],
    ],
    ids=["curl --http2", "websocket", "TLS", "order", "repeated", "empty", "connection alone", "upgrade alone"],
)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pause", [False, True])
def test_an_upgrade_is_ignored_and_the_body_is_read(
    open_target: HostileTarget, headers: list[str], chunked: bool, pause: bool
) -> None:
    request = post(BODY, *headers, chunked=chunked)
    cut = request.index(b"\r\n\r\n") + (10 if pause else 4)
    with connected(open_target) as connection:
        for _ in range(2):
            connection.sendall(request[:cut])
            if pause:
                time.sleep(0.05)  # the head arrives alone
            connection.sendall(request[cut:])
            response = response_of(connection)

            assert response.status == 200
            assert len(json.loads(response.read())["rewards"]) == 1
        connection.sendall(get("/healthz", *headers))
        assert response_of(connection).status == 200


@pytest.mark.parametrize("upgrade", [[], ["Connection: Upgrade", "Upgrade: h2c"]], ids=["plain", "upgrade"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_head_that_is_too_long_is_refused_after_the_request_before_it_was_answered(
    open_target: HostileTarget, upgrade: list[str], chunked: bool
) -> None:
    long_head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000
    with connected(open_target) as connection:
        connection.sendall(post(BODY, *upgrade, chunked=chunked) + get("/info", *upgrade) + long_head)

        assert final_statuses(rest(connection)) == [200, 200, 431]


def test_a_tunnel_is_refused(open_target: HostileTarget) -> None:
    with connected(open_target) as connection:
        connection.sendall(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert final_statuses(connection.recv(1_000))[0] in {400, 404, 405, 421}


# Pipelining ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 16, 17, 200])
@pytest.mark.parametrize("chunked", [False, True])
def test_pipelined_requests_are_answered_in_order(open_target: HostileTarget, n: int, chunked: bool) -> None:
    bodies = [
        json.dumps({"items": [{"prompt": "a", "response": "b", "id": f"item-{k}"}]}).encode() for k in range(n)
    ]
    with connected(open_target) as connection:
        connection.sendall(
            b"".join(post(body, chunked=chunked) for body in bodies) + get("/healthz", "Connection: close")
        )
        received = rest(connection)

    assert final_statuses(received) == [200] * (n + 1)
    assert re.findall(rb'"id": ?"(item-\d+)"', received) == [b"item-%d" % k for k in range(n)]


def test_pipelined_requests_in_pieces_of_any_size_are_answered(open_target: HostileTarget) -> None:
    requests = (
        post()
        + get("/nowhere")
        + post(OPENRLHF, path="/get_reward")
        + post(b"{}")
        + get("/healthz", "Connection: close")
    )
    for size in (1, 7, 100, 333):
        with connected(open_target) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(requests), size):
                connection.sendall(requests[start : start + size])

            assert final_statuses(rest(connection)) == [200, 404, 200, 422, 200]


def test_the_next_request_is_answered_after_one_that_was_refused_unread(open_target: HostileTarget) -> None:
    large = post(b" " * 1_000_000, "Content-Encoding: gzip")
    with connected(open_target) as connection:
        connection.sendall(large + post() + get("/healthz", "Connection: close"))

        assert final_statuses(rest(connection)) == [422, 200, 200]


# Half-closed connections -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 16])
@pytest.mark.parametrize("chunked", [False, True])
def test_requests_before_a_half_close_are_answered(open_target: HostileTarget, n: int, chunked: bool) -> None:
    with connected(open_target) as connection:
        connection.sendall(post(chunked=chunked) * n)
        connection.shutdown(socket.SHUT_WR)

        assert final_statuses(rest(connection)) == [200] * n


def test_a_long_request_survives_a_half_close(open_target: HostileTarget) -> None:
    items = [{"prompt": "Why?", "response": f"{n} " + "word " * 400} for n in range(250)]
    with connected(open_target) as connection:
        connection.sendall(post(json.dumps({"items": items}).encode()))
        connection.shutdown(socket.SHUT_WR)
        response = response_of(connection)

        assert response.status == 200
        assert len(json.loads(response.read())["rewards"]) == 250


@pytest.mark.parametrize("cut", [0, 10, len(post()) - len(BODY) - 2, len(post()) - len(BODY), len(post()) - 1])
def test_a_half_close_before_the_request_is_complete_ends_the_connection(
    open_target: HostileTarget, cut: int
) -> None:
    with connected(open_target) as connection:
        connection.sendall(post()[:cut])
        connection.shutdown(socket.SHUT_WR)

        assert final_statuses(rest(connection)) in ([], [400])


@pytest.mark.parametrize("resets", [False, True])
def test_the_work_of_a_client_that_left_is_dropped(open_target: HostileTarget, resets: bool) -> None:
    """Work for a minute; it ends soon after the client has closed its socket."""
    items = [{"prompt": "Why?", "response": f"{time.monotonic()} {n} " + "word " * 400} for n in range(4000)]
    url, name = open_target.url, 'glassbox_waiting_items{model="encoder"}'
    with connected(open_target) as connection:
        connection.sendall(post(json.dumps({"items": items}).encode()))
        until(lambda: waiting(url, name) > 1_000)
        if resets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    until(lambda: waiting(url, name) == 0, 10)


def waiting(url: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


# Refused bodies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [100_000, 40_000_000, 100_000_000])
def test_urllib_sees_why_its_body_was_refused(target: HostileTarget, n_bytes: int) -> None:
    """It sends the whole body before it reads, with `Connection: close`."""
    cases = {401: {}, 415: target.headers() | {"Content-Type": "text/plain"}, 404: target.headers()}
    if n_bytes > target.settings.max_body_bytes:
        cases[413] = target.headers()
    for status, headers in cases.items():
        url = f"{target.url}/{'nowhere' if status == 404 else 'score'}"
        request = urllib.request.Request(url, b" " * n_bytes, {"Content-Type": "application/json"} | headers)  # noqa: S310
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)  # noqa: S310

        assert caught.value.code == status


@pytest.mark.parametrize("close", ["close", "keep-alive"])
def test_a_refused_body_without_end_is_cut_off(target: HostileTarget, close: str) -> None:
    request = post(b"", f"Connection: {close}").replace(b"Content-Length: 0", b"Content-Length: 999999999999")
    sent = 0
    with connected(target) as connection:
        connection.sendall(request)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while sent < 2 * MAX_DISCARDED_BYTES:
                sent += connection.send(b" " * 1_000_000)

    assert MAX_DISCARDED_BYTES / 2 < sent < 2 * MAX_DISCARDED_BYTES


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [([], [100, 200]), (["Content-Encoding: gzip"], [422]), (["Content-Type: text/plain"], [415])],
)
def test_expect_is_answered_unless_the_request_is_refused(
    open_target: HostileTarget, headers: list[str], statuses: list[int]
) -> None:
    request = post(BODY, *headers, "Expect: 100-continue")
    if statuses == [415]:
        request = request.replace(b"Content-Type: application/json\r\n", b"")
    head, body = request[: -len(BODY)], request[-len(BODY) :]
    with connected(open_target) as connection:
        connection.sendall(head)
        received = connection.recv(25) if 100 in statuses else b""
        if 100 in statuses:
            connection.sendall(body + get("/healthz", "Connection: close"))
            statuses = [*statuses, 200]
        received += rest(connection)

    assert [int(status) for status in STATUS.findall(received)] == statuses


# Paths -----------------------------------------------------------------------------------------------------------

ROUTES = [
    "/score",
    "/get_reward",
    "/r/run/get_reward",
    "/info",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/redoc",
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_no_path_is_redirected(open_target: HostileTarget, route: str, method: str, host: str) -> None:
    for path in (f"{route}/", f"/{route}", f"{route}//", f"//evil.example{route}"):
        with connected(open_target) as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            received = rest(connection)

        assert b"location:" not in received.lower()
        assert final_statuses(received)[0] in ({404} if host == "localhost" else {421})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_answer_head(open_target: HostileTarget, path: str) -> None:
    response = httpx.head(f"{open_target.url}{path}")

    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/info", "/metrics", "/score"])
def test_head_elsewhere_has_no_body(open_target: HostileTarget, path: str) -> None:
    with connected(open_target) as connection:
        connection.sendall(
            f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() + get("/healthz", "Connection: close")
        )

        assert final_statuses(rest(connection))[1:] == [200]


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory, control_url: str) -> Iterator[HostileTarget]:
    hosts = "reward.example, Other.Example:443"
    folder = tmp_path_factory.mktemp("prefixed")
    with started(folder, control_url, keys=False, root_path="/glassbox", allowed_hosts=hosts) as running:
        yield running


@pytest.mark.parametrize("prefix", ["", "/glassbox"], ids=["prefix removed by the proxy", "prefix left"])
def test_every_route_works_behind_a_prefix(prefixed: HostileTarget, prefix: str) -> None:
    with httpx.Client(base_url=f"{prefixed.url}{prefix}") as proxied:
        scored = proxied.post("/score", content=BODY)
        assert scored.status_code == 200
        for route in ("/", "/info", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/redoc"):
            assert proxied.get(route).status_code == 200, route
        docs = proxied.get("/docs")
        assert "/glassbox/openapi.json" in docs.text
        assert "script-src" in docs.headers["content-security-policy"]
        [style] = re.findall(r'href="(/glassbox/[^"]+\.css)"', docs.text)
        assert proxied.get(style.removeprefix("/glassbox")).status_code == 200
        assert proxied.get("/openapi.json").json()["servers"] == [{"url": "/glassbox"}]
        assert proxied.get("/nowhere").status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("reward.example", 200),
        ("REWARD.example:8443", 200),
        ("other.example", 200),
        ("localhost:80", 200),
        ("evil.example", 421),
    ],
)
def test_allowed_hosts_are_answered(prefixed: HostileTarget, host: str, status: int) -> None:
    assert httpx.get(f"{prefixed.url}/info", headers={"host": host}).status_code == status


def test_a_page_at_an_allowed_host_scores_although_the_proxy_changes_the_host(prefixed: HostileTarget) -> None:
    headers = {"origin": "https://reward.example", "content-type": "application/json"}

    assert httpx.post(f"{prefixed.url}/score", content=BODY, headers=headers).status_code == 200


def test_the_log_of_all_this_has_no_traceback(open_target: HostileTarget, target: HostileTarget) -> None:
    for running in (open_target, target):
        assert "Traceback" not in Path(running.log).read_text()
