"""The client on real sockets: connections, truncated responses, cancelled calls, other transports."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from reward_client import AsyncRewardClient, RewardClient, RewardUnavailableError, ScoreReply
from reward_client.client import MAX_CONNECTIONS
from reward_client.transport import DeadlineTransport
from tests.live import until
from tests.unit.client_server import (
    BOTH,
    ITEMS,
    LIFETIME_S,
    NEVER,
    QUICK,
    WHOLE,
    Ask,
    Served,
    answer,
    half_then_whole,
    hang,
    serving,
    trickle,
)

pytestmark = pytest.mark.slow


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
