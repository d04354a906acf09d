"""The client on real sockets: servers that hang, disconnect, trickle, and count connections."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from reward_client import AsyncRewardClient, Item, RetryPolicy, RewardClient, RewardUnavailableError, ScoreReply
from reward_client.client import MAX_CONNECTIONS
from reward_client.flow import SendRequest
from reward_client.timeouts import TimeBudget
from reward_client.transport import DeadlineTransport
from tests.live import until

pytestmark = pytest.mark.slow

ITEMS = [Item(prompt="p", response="r")]
NEVER = RetryPolicy(budget_s=0.0)
QUICK = RetryPolicy(budget_s=30.0, first_delay_s=0.01, max_delay_s=0.02)
BODY = json.dumps(
    {
        "rewards": [0.5],
        "results": [{"reward": 0.5}],
        "recipe": {"name": "rer", "hash": "x"},
        "models": {"relevance": "m", "gold": None},
        "timing_ms": {"queue": 0.0, "encode": 0.0, "gold": None, "total": 0.0},
    }
).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


@dataclass
class Served:
    """A server, and the requests it received."""

    url: str
    connections: int = 0
    keys: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test, so that a hanging handler returns."""


Behaviour = Callable[[Served, BaseHTTPRequestHandler, int], None]
"""Responds to a request; the number counts requests from 1."""


@contextmanager
def serving(behave: Behaviour) -> Iterator[Served]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            with lock:
                served.connections += 1
            super().setup()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            with lock:
                served.keys.append(self.headers["idempotency-key"])
                number = len(served.keys)
            behave(served, self, number)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """Clients that disconnect are expected here."""

    server = Server(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer(_: Served, handler: BaseHTTPRequestHandler, __: int) -> None:
    handler.wfile.write(WHOLE)


def hang(served: Served, _: BaseHTTPRequestHandler, __: int) -> None:
    served.over.wait(LIFETIME_S)


def trickle(served: Served, handler: BaseHTTPRequestHandler, _: int) -> None:
    """Send one byte of the body every 20 ms: each pause is short, the response takes hours."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    for _pause in trickling(served.over, 0.02):
        handler.wfile.write(b" ")


def half_then_whole(_: Served, handler: BaseHTTPRequestHandler, number: int) -> None:
    handler.wfile.write(WHOLE if number == 3 else WHOLE[: -len(BODY) // 2])
    handler.close_connection = True


LIFETIME_S = 60.0
"""Seconds after which the servers close a connection. A client that had not ended the attempt would then report a
closed connection instead of its timeout, so the tests need no limit on elapsed time."""


def trickling(over: threading.Event, pause_s: float) -> Iterator[None]:
    """Yield every `pause_s` seconds until the test is over, LIFETIME_S at most."""
    end_s = time.monotonic() + LIFETIME_S
    while not over.wait(pause_s) and time.monotonic() < end_s:
        yield


NARROW = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)]
"""A small send buffer, so that the kernel cannot take a large request that the server does not read."""


def score(urls: str | list[str], items: list[Item] = ITEMS, **how: Any) -> ScoreReply:
    with RewardClient(urls, transport=DeadlineTransport(socket_options=NARROW), **how) as client:
        return client.score(items)


def score_async(urls: str | list[str], items: list[Item] = ITEMS, **how: Any) -> ScoreReply:
    async def ask() -> ScoreReply:
        transport = httpx.AsyncHTTPTransport(socket_options=NARROW)
        async with AsyncRewardClient(urls, transport=transport, **how) as client:
            return await client.score(items)

    return asyncio.run(ask())


def score_by_default_transport(url: str, **how: Any) -> ScoreReply:
    with RewardClient(url, **how) as client:
        return client.score(ITEMS)


def score_async_by_default_transport(url: str, **how: Any) -> ScoreReply:
    async def ask() -> ScoreReply:
        async with AsyncRewardClient(url, **how) as client:
            return await client.score(ITEMS)

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("ask", [score, score_async])
Ask = Callable[..., ScoreReply]


def test_connections_are_used_again() -> None:
    with serving(answer) as served, RewardClient(served.url) as client:
        for _ in range(20):
            client.score(ITEMS)

    assert (served.connections, len(served.keys)) == (1, 20)


@dataclass
class Gate:
    """Holds requests until MAX_CONNECTIONS of them are being served, and records the largest number at a time."""

    served: int = 0
    peak: int = 0
    full: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, served: Served, handler: BaseHTTPRequestHandler, number: int) -> None:
        with self.lock:
            self.served += 1
            self.peak = max(self.peak, self.served)
            if self.served == MAX_CONNECTIONS:
                self.full.set()
        self.full.wait(LIFETIME_S)
        with self.lock:
            self.served -= 1
        answer(served, handler, number)


def test_many_calls_at_once_share_a_bounded_number_of_connections() -> None:
    async def ask(url: str) -> list[ScoreReply]:
        async with AsyncRewardClient(url, retry=NEVER) as client:
            return await asyncio.gather(*(client.score(ITEMS) for _ in range(3 * MAX_CONNECTIONS)))

    gate = Gate()
    with serving(gate) as served:
        replies = asyncio.run(ask(served.url))

    assert [reply.rewards for reply in replies] == [[0.5]] * (3 * MAX_CONNECTIONS)
    assert gate.peak == MAX_CONNECTIONS


def test_threads_may_share_a_client() -> None:
    rewards: list[float | None] = []
    with serving(answer) as served, RewardClient(served.url) as client:
        threads = [threading.Thread(target=lambda: rewards.extend(client.score(ITEMS).rewards)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert rewards == [0.5] * 16
    assert len(set(served.keys)) == 16


@BOTH
def test_an_attempt_at_a_server_that_hangs_ends_at_the_read_timeout(ask: Ask) -> None:
    with serving(hang) as served, pytest.raises(RewardUnavailableError, match="ReadTimeout"):
        ask(served.url, read_timeout_s=0.2, retry=NEVER)


@BOTH
def test_a_deadline_ends_a_call_before_the_other_timeouts(ask: Ask) -> None:
    with serving(hang) as served, pytest.raises(RewardUnavailableError, match=r"deadline of 0\.3 s"):
        ask(served.url, deadline_s=0.3)


@BOTH
def test_a_response_that_trickles_is_bounded_by_the_read_timeout(ask: Ask) -> None:
    with serving(trickle) as served, pytest.raises(RewardUnavailableError, match="not complete after"):
        ask(served.url, read_timeout_s=0.3, retry=NEVER)


@contextmanager
def listening(meet: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server without HTTP: `meet` handles each connection until the test is over. Yields the URL."""
    over, threads = threading.Event(), []
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def accept() -> None:
            with suppress(OSError):
                while not over.is_set():
                    connection = listener.accept()[0]
                    threads.append(threading.Thread(target=meeting, args=(connection,), daemon=True))
                    threads[-1].start()

        def meeting(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                meet(connection, over)

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
    for thread in (accepting, *threads):
        thread.join(10)


def trickle_headers(connection: socket.socket, over: threading.Event) -> None:
    """Send one byte of a header every 50 ms."""
    while b"]" not in connection.recv(65_536)[-100:] and not over.is_set():
        pass
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-filler: ")
    for _ in trickling(over, 0.05):
        connection.sendall(b"a")


def never_read(_: socket.socket, over: threading.Event) -> None:
    over.wait(LIFETIME_S)


def read_slowly(connection: socket.socket, over: threading.Event) -> None:
    """Read at most 1 kB every 100 ms, so that 1 MB is not read within LIFETIME_S."""
    for _ in trickling(over, 0.1):
        connection.recv(1_000)


LARGE = [Item(prompt="p", response="r" * 200_000)] * 5
"""About 1 MB, the most that is sent without requesting the limits first."""


@BOTH
@pytest.mark.parametrize("bound", ["deadline_s", "read_timeout_s"])
def test_response_headers_that_trickle_are_bounded_too(ask: Ask, bound: str) -> None:
    with listening(trickle_headers) as url, pytest.raises(RewardUnavailableError) as caught:
        ask(url, retry=NEVER, **{bound: 0.4})

    assert "ReadTimeout: the response was not complete after 0." in str(caught.value)


@BOTH
@pytest.mark.parametrize("meet", [never_read, read_slowly])
@pytest.mark.parametrize("bound", ["deadline_s", "read_timeout_s"])
def test_a_request_that_the_server_does_not_read_is_bounded_too(
    ask: Ask, meet: Callable[[socket.socket, threading.Event], None], bound: str
) -> None:
    with listening(meet) as url, pytest.raises(RewardUnavailableError) as caught:
        ask(url, retry=NEVER, items=LARGE, **{bound: 0.4})

    assert "WriteTimeout: the request was not sent after 0." in str(caught.value)


@BOTH
def test_a_deadline_ends_an_attempt_in_its_second_phase(ask: Ask) -> None:
    with (
        listening(trickle_headers) as url,
        pytest.raises(RewardUnavailableError, match=r"ReadTimeout: .* after [01]"),
    ):
        ask(url, retry=NEVER, items=LARGE, deadline_s=1.0)


def budget(clock: Callable[[], float], left_s: float | None) -> TimeBudget:
    step = SendRequest("POST", "http://host/score", {}, b"", 10.0, 5.0, left_s)
    return TimeBudget(step, clock)


def test_phases_share_a_deadline_and_each_has_its_own_limit() -> None:
    now_s = 100.0
    shared, separate = budget(lambda: now_s, left_s=1.0), budget(lambda: now_s, left_s=None)

    assert (shared.check("write"), separate.check("write")) == (1.0, 5.0)
    now_s = 100.6
    assert shared.check("read") == pytest.approx(0.4)
    assert separate.check("read") == 5.0
    now_s = 101.0
    assert separate.check("read") == pytest.approx(4.6)
    with pytest.raises(httpx.ReadTimeout, match="the response was not complete after 1 s"):
        shared.check("read")


@BOTH
def test_an_attempt_that_trickles_is_retried_within_the_deadline(ask: Ask) -> None:
    met = []

    def at_first(connection: socket.socket, over: threading.Event) -> None:
        met.append(connection)
        if len(met) == 1:
            trickle_headers(connection, over)
        else:
            connection.recv(65_536)
            connection.sendall(WHOLE)
            over.wait(LIFETIME_S)

    with listening(at_first) as url:
        assert ask(url, retry=QUICK, read_timeout_s=1.0, deadline_s=50.0).rewards == [0.5]

    assert len(met) == 2


@BOTH
def test_a_truncated_response_is_retried_with_the_same_idempotency_key(ask: Ask) -> None:
    with serving(half_then_whole) as served:
        assert ask(served.url, retry=QUICK).rewards == [0.5]

    assert len(served.keys) == 3
    assert len(set(served.keys)) == 1


@BOTH
def test_a_truncated_response_is_never_a_reward(ask: Ask) -> None:
    with serving(half_then_whole) as served, pytest.raises(RewardUnavailableError, match="peer closed connection"):
        ask(served.url, retry=NEVER)


@BOTH
def test_a_replica_that_hangs_costs_its_timeout_and_no_reward(ask: Ask) -> None:
    with serving(hang) as hanging, serving(answer) as well:
        assert ask([hanging.url, well.url], read_timeout_s=1.0).rewards == [0.5]

    assert hanging.keys == well.keys


@BOTH
def test_a_closed_port_is_an_error_with_its_address(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(RewardUnavailableError, match=rf"127\.0\.0\.1:{port}/score.*refused|attempts failed"):
        ask(f"http://127.0.0.1:{port}", retry=NEVER)


def test_a_cancelled_call_leaves_its_client_usable() -> None:
    def first_hangs(served: Served, handler: BaseHTTPRequestHandler, number: int) -> None:
        (hang if number == 1 else answer)(served, handler, number)

    async def ask(url: str) -> ScoreReply:
        async with AsyncRewardClient(url) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.score(ITEMS), 0.2)
            return await client.score(ITEMS)

    with serving(first_hangs) as served:
        assert asyncio.run(ask(served.url)).rewards == [0.5]


def test_waiting_for_a_free_connection_does_not_open_the_circuit() -> None:
    async def scenario(url: str) -> None:
        transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1))
        async with AsyncRewardClient(url, transport=transport, retry=NEVER) as client:
            holding = asyncio.create_task(client.score(ITEMS))
            await asyncio.to_thread(until, lambda: served.keys)
            for _ in range(4):
                with pytest.raises(RewardUnavailableError, match="PoolTimeout: no connection was free"):
                    await client.score(ITEMS, deadline_s=0.2)
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)

    with serving(hang) as served:
        asyncio.run(scenario(served.url))


def test_a_response_that_trickles_through_another_transport_is_bounded_too() -> None:
    class Wrapped(httpx.BaseTransport):
        def __init__(self) -> None:
            self._inner = httpx.HTTPTransport()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return self._inner.handle_request(request)

    with (
        serving(trickle) as served,
        RewardClient(served.url, transport=Wrapped(), retry=NEVER) as client,
        pytest.raises(RewardUnavailableError, match=r"not complete after 0\.5 s"),
    ):
        client.score(ITEMS, deadline_s=0.5)


def test_a_service_behind_a_unix_socket_is_reached(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(WHOLE)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        transport = httpx.HTTPTransport(uds=path)
        with RewardClient("http://localhost", transport=transport, retry=NEVER) as client:
            assert client.score(ITEMS).rewards == [0.5]
        server.join()


def test_clients_may_share_a_transport() -> None:
    transport = DeadlineTransport()
    with serving(answer) as served:
        for _ in range(20):
            client = RewardClient(served.url, transport=transport)

        assert client.score(ITEMS).rewards == [0.5]
        client.close()


@pytest.mark.parametrize("ask", [score_by_default_transport, score_async_by_default_transport])
@pytest.mark.parametrize(("no_proxy", "by_proxy"), [("", True), ("example.test", False)])
def test_the_proxy_of_the_environment_is_used(
    ask: Ask, no_proxy: str, by_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        if by_proxy:
            assert ask("http://service.example.test").rewards == [0.5]
        else:
            with pytest.raises(RewardUnavailableError, match="ConnectError"):
                ask("http://service.example.test", retry=NEVER, connect_timeout_s=5.0)

    assert len(proxy.keys) == int(by_proxy)


def post_by_httpx(url: str) -> ScoreReply:
    with httpx.Client() as client:
        return ScoreReply.model_validate_json(client.post(f"{url}/score", content=b"{}").content)


@pytest.mark.parametrize("ask", [post_by_httpx, score_by_default_transport, score_async_by_default_transport])
@pytest.mark.parametrize("scheme", ["http", "all"])
@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("127.0.0.1", "127.0.0.1:{port}", True),
        ("127.0.0.1", "127.0.0.1:1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1, 127.0.0.1", True),
        ("127.0.0.1", "127.0.0.0/8", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "http://127.0.0.1", True),
        ("127.0.0.1", "https://127.0.0.1", False),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "*", True),
        ("127.0.0.1", "example.test, *", True),
        ("localhost", "localhost", True),
        ("localhost", "LOCALHOST", True),
        ("localhost", "localhost:{port}", True),
        ("localhost", "localhost:1", False),
        ("localhost", "calhost", False),
        ("localhost", ",", False),
    ],
)
def test_no_proxy_means_the_same_as_for_httpx(
    ask: Ask, scheme: str, host: str, no_proxy: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving(answer) as proxy, serving(answer) as service:
        port = httpx.URL(service.url).port
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy.format(port=port))

        assert ask(f"http://{host}:{port}").rewards == [0.5]

    assert (len(service.keys), len(proxy.keys)) == ((1, 0) if direct else (0, 1))


@pytest.mark.parametrize("ask", [score_by_default_transport, score_async_by_default_transport])
@pytest.mark.parametrize("no_proxy", ["[::1], 127.0.0.1", "[::1]:8000, 127.0.0.1"])
def test_no_proxy_may_contain_an_ipv6_address_in_brackets(
    ask: Ask, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as service:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", no_proxy)

        assert ask(service.url, retry=NEVER).rewards == [0.5]
