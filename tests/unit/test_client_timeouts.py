"""The client on servers that hang or trickle: every phase of an attempt is bounded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from reward_client import Item, RewardUnavailableError
from reward_client.flow import SendRequest
from reward_client.timeouts import TimeBudget
from tests.unit.client_server import (
    BOTH,
    LIFETIME_S,
    NEVER,
    QUICK,
    WHOLE,
    Ask,
    hang,
    serving,
    trickle,
    trickling,
)

pytestmark = pytest.mark.slow


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
