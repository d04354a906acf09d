"""The client on real sockets: servers that hang, break off, drip, and count who connects."""

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
from tests.live import until

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
    """A server, and what it saw."""

    url: str
    connections: int = 0
    keys: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the test is done: whatever hangs may end."""


Behaviour = Callable[[Served, BaseHTTPRequestHandler, int], None]
"""Answers a request; the number counts requests from 1."""


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
            """Callers that leave are what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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
    served.over.wait(30)


def drip(served: Served, handler: BaseHTTPRequestHandler, _: int) -> None:
    """A byte now and then: no pause is long, the whole never ends."""
    handler.wfile.write(WHOLE[: WHOLE.index(b"{")])
    for byte in BODY * 100:
        if served.over.wait(0.02):
            return
        handler.wfile.write(bytes([byte]))


def half_then_whole(_: Served, handler: BaseHTTPRequestHandler, number: int) -> None:
    handler.wfile.write(WHOLE if number == 3 else WHOLE[: -len(BODY) // 2])
    handler.close_connection = True


NARROW = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)]
"""So that a large request waits for its server, and not in the kernel."""


def score(urls: str | list[str], items: list[Item] = ITEMS, **how: Any) -> ScoreReply:
    with RewardClient(urls, transport=httpx.HTTPTransport(socket_options=NARROW), **how) as client:
        return client.score(items)


def score_async(urls: str | list[str], items: list[Item] = ITEMS, **how: Any) -> ScoreReply:
    async def ask() -> ScoreReply:
        transport = httpx.AsyncHTTPTransport(socket_options=NARROW)
        async with AsyncRewardClient(urls, transport=transport, **how) as client:
            return await client.score(items)

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("ask", [score, score_async])
Ask = Callable[..., ScoreReply]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started_s = time.monotonic()
    yield
    assert time.monotonic() - started_s < seconds


def test_connections_are_used_again() -> None:
    with serving(answer) as served, RewardClient(served.url) as client:
        for _ in range(20):
            client.score(ITEMS)

    assert (served.connections, len(served.keys)) == (1, 20)


def test_many_calls_at_once_share_a_bounded_number_of_connections() -> None:
    async def ask(url: str) -> list[ScoreReply]:
        async with AsyncRewardClient(url, retry=NEVER) as client:
            return await asyncio.gather(*(client.score(ITEMS) for _ in range(3 * MAX_CONNECTIONS)))

    with serving(answer) as served:
        replies = asyncio.run(ask(served.url))

    assert [reply.rewards for reply in replies] == [[0.5]] * (3 * MAX_CONNECTIONS)
    assert served.connections <= MAX_CONNECTIONS


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
def test_a_server_that_hangs_is_given_up_at_the_read_timeout(ask: Ask) -> None:
    with (
        serving(hang) as served,
        within(5.0),
        pytest.raises(RewardUnavailableError, match="ReadTimeout"),
    ):
        ask(served.url, read_timeout_s=0.2, retry=NEVER)


@BOTH
def test_a_deadline_ends_a_call_whatever_the_other_bounds_allow(ask: Ask) -> None:
    with serving(hang) as served, within(5.0), pytest.raises(RewardUnavailableError, match=r"deadline of 0\.3 s"):
        ask(served.url, deadline_s=0.3)


@BOTH
def test_an_answer_that_drips_is_held_to_the_same_time(ask: Ask) -> None:
    with serving(drip) as served, within(5.0), pytest.raises(RewardUnavailableError, match="not complete after"):
        ask(served.url, read_timeout_s=0.3, retry=NEVER)


@contextmanager
def listening(meet: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server that knows no HTTP: `meet` has each connection to itself until the test is over. Yields its URL."""
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


def drip_headers(connection: socket.socket, over: threading.Event) -> None:
    """A header's byte every 50 ms, without end."""
    while b"]" not in connection.recv(65_536)[-100:] and not over.is_set():
        pass
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-filler: ")
    while not over.wait(0.05):
        connection.sendall(b"a")


def never_read(_: socket.socket, over: threading.Event) -> None:
    over.wait(30)


def read_by_drops(connection: socket.socket, over: threading.Event) -> None:
    """DiskBudget for some more of the request now and then: no pause is long, the whole never ends."""
    while not over.wait(0.02):
        connection.recv(4_000)


LARGE = [Item(prompt="p", response="r" * 200_000)] * 5
"""As much as is sent without asking for limits first."""


@BOTH
@pytest.mark.parametrize("bound", ["deadline_s", "read_timeout_s"])
def test_headers_that_drip_are_held_to_the_same_time(ask: Ask, bound: str) -> None:
    with listening(drip_headers) as url, within(3.0), pytest.raises(RewardUnavailableError) as caught:
        ask(url, retry=NEVER, **{bound: 0.4})

    assert "ReadTimeout: the answer was not complete after 0." in str(caught.value)


@BOTH
@pytest.mark.parametrize("meet", [never_read, read_by_drops])
@pytest.mark.parametrize("bound", ["deadline_s", "read_timeout_s"])
def test_a_request_that_nobody_takes_in_is_held_to_it_too(
    ask: Ask, meet: Callable[[socket.socket, threading.Event], None], bound: str
) -> None:
    with listening(meet) as url, within(3.0), pytest.raises(RewardUnavailableError) as caught:
        ask(url, retry=NEVER, items=LARGE, **{bound: 0.4})

    assert "WriteTimeout: the request was not sent after 0." in str(caught.value)


@BOTH
def test_phases_share_a_deadline_and_do_not_add_up(ask: Ask) -> None:
    def slowly(connection: socket.socket, over: threading.Event) -> None:
        """Takes more than half of the deadline to take the request in, and then drips its answer."""
        taken = 0
        while taken < 900_000 and not over.is_set():
            taken += len(connection.recv(65_536))
        over.wait(0.6)
        drip_headers(connection, over)

    with (
        listening(slowly) as url,
        within(1.4),
        pytest.raises(RewardUnavailableError, match=r"ReadTimeout: .* after \d"),
    ):
        ask(url, retry=NEVER, items=LARGE, deadline_s=1.0)


@BOTH
def test_an_attempt_that_drips_is_tried_again_within_the_deadline(ask: Ask) -> None:
    met = []

    def at_first(connection: socket.socket, over: threading.Event) -> None:
        met.append(connection)
        if len(met) == 1:
            drip_headers(connection, over)
        else:
            connection.recv(65_536)
            connection.sendall(WHOLE)
            over.wait(30)

    with listening(at_first) as url, within(5.0):
        assert ask(url, retry=QUICK, read_timeout_s=0.3, deadline_s=20.0).rewards == [0.5]

    assert len(met) == 2


@BOTH
def test_a_half_sent_answer_is_asked_for_again_with_the_same_key(ask: Ask) -> None:
    with serving(half_then_whole) as served:
        assert ask(served.url, retry=QUICK).rewards == [0.5]

    assert len(served.keys) == 3
    assert len(set(served.keys)) == 1


@BOTH
def test_a_half_sent_answer_is_never_a_reward(ask: Ask) -> None:
    with serving(half_then_whole) as served, pytest.raises(RewardUnavailableError, match="peer closed connection"):
        ask(served.url, retry=NEVER)


@BOTH
def test_a_replica_that_hangs_costs_its_timeout_and_no_reward(ask: Ask) -> None:
    with serving(hang) as hanging, serving(answer) as well, within(5.0):
        assert ask([hanging.url, well.url], read_timeout_s=0.2).rewards == [0.5]

    assert hanging.keys == well.keys


@BOTH
def test_a_port_that_nobody_listens_on_is_an_error_with_its_address(ask: Ask) -> None:
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


def test_waiting_for_a_free_connection_is_no_failure_of_the_service() -> None:
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


def test_an_answer_that_drips_through_a_transport_of_the_users_own_is_held_to_its_time() -> None:
    class Wrapped(httpx.BaseTransport):
        def __init__(self) -> None:
            self._inner = httpx.HTTPTransport()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return self._inner.handle_request(request)

    with (
        serving(drip) as served,
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
    transport = httpx.HTTPTransport()
    with serving(answer) as served:
        for _ in range(1100):
            client = RewardClient(served.url, transport=transport)

        assert client.score(ITEMS).rewards == [0.5]
        client.close()
