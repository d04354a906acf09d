"""Retries, failover and the circuit breaker of a call, with a simulated clock."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_client.endpoints import CircuitPolicy, Endpoints, State
from reward_client.errors import RewardError, RewardUnavailableError
from reward_client.flow import (
    Call,
    ClientConfig,
    Outcome,
    RawResponse,
    SendRequest,
    Sleep,
    TransportFailure,
    request_flow,
)
from reward_client.retry import RETRYABLE, RetryPolicy
from reward_client.urls import addresses

POLICY = CircuitPolicy(failures_to_open=3, first_open_s=1.0, max_open_s=8.0)
A, B = "http://a", "http://b"
GOOD = RawResponse(200, b"{}")
REFUSED = TransportFailure(httpx.ConnectError("connection refused"))


def busy(status: int, retry_after: str | None = None) -> RawResponse:
    return RawResponse(status, b"", "later", retry_after)


@dataclass
class World:
    """Runs request flows without sockets: a clock, outcomes by URL, and a log of the attempts."""

    urls: tuple[str, ...] = (A,)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    attempt_s: float = 0.1
    """Seconds that an attempt takes."""
    now_s: float = 1000.0
    attempts: list[tuple[float, str]] = field(default_factory=list)
    sent: list[SendRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.endpoints = Endpoints(addresses(self.urls), POLICY)
        self.config = ClientConfig(self.retry, clock=lambda: self.now_s, random=lambda: 0.5)

    def call(
        self, outcomes: dict[str, list[Outcome]], deadline_s: float | None = None, respects_circuit: bool = True
    ) -> RawResponse:
        """Run a call to its end; the last outcome of a URL repeats."""
        deadline_at_s = None if deadline_s is None else self.now_s + deadline_s
        flow = request_flow(
            Call("POST", "/score", b"{}", deadline_at_s, deadline_s, respects_circuit), self.endpoints, self.config
        )
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                response: RawResponse = end.value
                return response
            if isinstance(step, Sleep):
                self.now_s += step.seconds
                outcome = None
                continue
            url = step.url.removesuffix("/score")
            self.attempts.append((self.now_s, url))
            self.sent.append(step)
            self.now_s += min(self.attempt_s, step.read_timeout_s)
            outcome = outcomes[url].pop(0) if len(outcomes[url]) > 1 else outcomes[url][0]

    @property
    def order(self) -> str:
        """The URLs of the attempts, as letters."""
        return "".join(url[-1] for _, url in self.attempts)


@given(
    statuses=st.lists(st.sampled_from([*sorted(RETRYABLE), 0]), min_size=1, max_size=30),
    retry_after=st.none() | st.integers(0, 200).map(str),
    budget_s=st.floats(0, 100),
)
def test_no_retry_begins_after_the_budget_and_every_call_ends(
    statuses: list[int], retry_after: str | None, budget_s: float
) -> None:
    world = World(retry=RetryPolicy(budget_s=budget_s))

    with pytest.raises(RewardUnavailableError):
        world.call({A: [busy(status, retry_after) if status else REFUSED for status in statuses]})

    assert all(at_s - 1000.0 <= budget_s for at_s, _ in world.attempts)
    assert world.now_s - 1000.0 <= budget_s + world.attempt_s + 1e-6


@given(deadline_s=st.floats(0.01, 50), attempt_s=st.floats(0, 300))
def test_a_deadline_bounds_the_call_and_the_time_left_is_sent_to_the_service(
    deadline_s: float, attempt_s: float
) -> None:
    world = World(urls=(A, B), attempt_s=attempt_s)

    with pytest.raises(RewardUnavailableError, match="deadline"):
        world.call({A: [REFUSED], B: [busy(503)]}, deadline_s)

    assert world.now_s - 1000.0 <= deadline_s + 1e-6
    for (at_s, _), send in zip(world.attempts, world.sent, strict=True):
        left_s = 1000.0 + deadline_s - at_s
        assert left_s > 0
        assert float(send.headers["glassbox-deadline-s"]) == pytest.approx(left_s, abs=1e-3)
        assert send.read_timeout_s <= left_s
        assert send.connect_timeout_s <= left_s


@pytest.mark.parametrize("deadline_s", [1e-6, 4e-4, 6e-4])
def test_the_deadline_of_a_request_is_never_sent_as_zero(deadline_s: float) -> None:
    world = World()

    with pytest.raises(RewardUnavailableError, match="deadline"):
        world.call({A: [REFUSED]}, deadline_s)

    assert [send.headers["glassbox-deadline-s"] for send in world.sent] == ["0.001"]


CUT = TransportFailure(httpx.ReadTimeout("read timed out"))


@pytest.mark.parametrize(
    ("seen", "message", "cause"),
    [
        ([busy(503), CUT], "last cause http://a: 503 later: ; the deadline ended the next attempt after", None),
        ([REFUSED, CUT], "last cause http://a: ConnectError: connection refused; the deadline", REFUSED.cause),
        ([CUT], "last cause http://a: ReadTimeout: read timed out", CUT.cause),
        ([busy(503), REFUSED], "last cause http://a: ConnectError: connection refused", REFUSED.cause),
    ],
)
def test_an_attempt_that_the_deadline_ends_does_not_hide_what_was_seen_before(
    seen: list[Outcome], message: str, cause: Exception | None
) -> None:
    world = World(attempt_s=9.0 if len(seen) == 1 or seen[-1] is CUT else 0.1)

    with pytest.raises(RewardUnavailableError) as ended:
        world.call({A: list(seen)}, deadline_s=9.0 if len(seen) == 1 else 12.0)

    assert message in str(ended.value)
    assert ended.value.__cause__ is cause


def test_of_several_urls_one_that_answers_makes_the_service_one_that_is_there() -> None:
    world = World(urls=(A, B), retry=RetryPolicy(budget_s=5.0))

    with pytest.raises(RewardUnavailableError) as ended:
        world.call({A: [busy(503)], B: [REFUSED]})

    assert ended.value.__cause__ is None
    assert ended.value.causes == ("http://a: 503 later: ", "http://b: ConnectError: connection refused")


def test_without_a_deadline_no_header_is_sent() -> None:
    world = World()
    world.call({A: [GOOD]})

    assert "glassbox-deadline-s" not in world.sent[0].headers
    assert world.sent[0].read_timeout_s == 180.0


def test_after_a_failure_the_next_url_is_tried_at_once() -> None:
    world = World(urls=(A, B))

    assert world.call({A: [REFUSED], B: [GOOD]}) == GOOD
    assert world.attempts == [(1000.0, A), (1000.1, B)]


def test_the_budget_ends_a_call_to_two_services_that_never_respond() -> None:
    """Each attempt takes longer than the delay of the other URL, so the budget must be checked without a sleep."""
    world = World(urls=(A, B), retry=RetryPolicy(budget_s=60.0), attempt_s=10.0)
    with pytest.raises(RewardUnavailableError, match="budget"):
        world.call({A: [REFUSED], B: [REFUSED] * 50 + [GOOD]})

    assert world.now_s <= 1000.0 + 60.0 + 10.0


def test_another_url_is_tried_after_the_first_one_spent_the_budget() -> None:
    world = World(urls=(A, B), retry=RetryPolicy(budget_s=0.0))

    assert world.call({A: [busy(503)], B: [GOOD]}) == GOOD
    with pytest.raises(RewardUnavailableError):
        world.call({A: [REFUSED], B: [REFUSED]})
    assert world.order == "abab"


def test_a_url_that_keeps_failing_is_skipped_while_its_circuit_is_open_and_then_preferred_again() -> None:
    world = World(urls=(A, B))
    for _ in range(5):
        world.call({A: [REFUSED], B: [GOOD]})
    assert world.order == "ab" * 3 + "bb"

    world.now_s += POLICY.first_open_s
    world.call({A: [GOOD], B: [GOOD]})
    world.call({A: [GOOD], B: [GOOD]})
    assert world.order.endswith("aa")


def test_in_the_half_open_state_one_call_tries_and_the_others_use_another_url() -> None:
    world = World(urls=(A, B))
    for _ in range(3):
        world.call({A: [REFUSED], B: [GOOD]})
    world.now_s += POLICY.first_open_s

    trying = request_flow(Call("GET", "/info"), world.endpoints, world.config)
    assert next(trying).url == "http://a/info"  # type: ignore[union-attr]
    world.attempts.clear()
    world.call({A: [GOOD], B: [GOOD]})
    assert world.order == "b"

    trying.close()  # it was cancelled: the next call tries
    world.call({A: [GOOD], B: [GOOD]})
    assert world.order == "ba"


def test_an_overloaded_service_is_healthy() -> None:
    """429 requests a later retry; it does not open the circuit, which would block other calls."""
    world = World()
    with pytest.raises(RewardUnavailableError):
        world.call({A: [busy(429)]})

    assert world.endpoints.states(world.now_s) == [State.CLOSED]


def test_an_open_circuit_is_reported_in_the_log_and_in_the_error(caplog: pytest.LogCaptureFixture) -> None:
    world = World(retry=RetryPolicy(budget_s=0.0))
    with caplog.at_level(logging.DEBUG, logger="reward_client"):
        for _ in range(3):
            with pytest.raises(RewardUnavailableError, match="connection refused"):
                world.call({A: [REFUSED]})
        with pytest.raises(RewardUnavailableError, match=r"0 attempt.*circuit of http://a is open for 1\.0 s"):
            world.call({A: [GOOD]})
        world.now_s += POLICY.first_open_s
        world.call({A: [GOOD]})

    opened, closed = [record.getMessage() for record in caplog.records]
    assert opened.startswith(
        "circuit of http://a is open for 1.0 s (3 failures in a row, the last one: ConnectError"
    )
    assert closed == "circuit of http://a closed: it responds again"


@given(outage_s=st.floats(0, 25))
def test_a_service_that_restarts_is_used_again_soon_without_an_error(outage_s: float) -> None:
    world = World()

    class Outage(list[Outcome]):
        def __getitem__(self, _: object) -> Outcome:  # type: ignore[override]
            return REFUSED if world.now_s < 1000.0 + outage_s else GOOD

    assert world.call({A: Outage([REFUSED])}) == GOOD
    assert world.now_s - 1000.0 <= 2 * outage_s + POLICY.first_open_s


def test_retry_after_is_respected_however_often_it_is_sent() -> None:
    world = World(retry=RetryPolicy(budget_s=120.0))

    assert world.call({A: [*[busy(503, "2")] * 12, GOOD]}) == GOOD

    pauses = [then - before for (before, _), (then, _) in zip(world.attempts, world.attempts[1:], strict=False)]
    assert max(pauses) < 2.5


def test_waiting_for_a_free_connection_is_not_a_failure_of_the_service() -> None:
    world = World(retry=RetryPolicy(budget_s=2.0))
    with pytest.raises(RewardUnavailableError, match="PoolTimeout"):
        world.call({A: [TransportFailure(httpx.PoolTimeout("no free connection"))]}, deadline_s=30.0)

    assert world.endpoints.states(world.now_s) == [State.CLOSED]


def test_an_error_that_every_attempt_would_repeat_is_not_retried() -> None:
    world = World()
    with pytest.raises(RewardError, match="LocalProtocolError"):
        world.call({A: [TransportFailure(httpx.LocalProtocolError("illegal header"))]})

    assert world.order == "a"


def test_a_readiness_check_is_sent_while_the_circuit_is_open_and_closes_it() -> None:
    """A loop that waits for a service to start must notice it at once, after any number of failures."""
    world = World(retry=RetryPolicy(budget_s=0.0))
    for _ in range(5):
        with pytest.raises(RewardUnavailableError, match="1 attempt"):
            world.call({A: [REFUSED]}, respects_circuit=False)
    assert world.endpoints.states(world.now_s) == [State.OPEN]

    assert world.call({A: [GOOD]}, respects_circuit=False) == GOOD
    assert world.endpoints.states(world.now_s) == [State.CLOSED]
