"""Retries, failover and the circuit: pure decisions, driven here with a clock that the tests hold."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reward_client.circuit import Circuit, CircuitPolicy, State
from reward_client.endpoints import Endpoints
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

POLICY = CircuitPolicy(failures_to_open=3, first_hold_s=1.0, max_hold_s=8.0)
A, B = "http://a", "http://b"
GOOD = RawResponse(200, b"{}")
GONE = TransportFailure(httpx.ConnectError("connection refused"))


def busy(status: int, retry_after: str | None = None) -> RawResponse:
    return RawResponse(status, b"", "later", retry_after)


class CircuitMachine(RuleBasedStateMachine):
    """Any order of attempts, outcomes and time keeps the promises of the circuit."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.circuit = Circuit(POLICY)
        self.in_a_row = 0

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.circuit.wait_s(self.now_s) == 0)
    @rule()
    def an_attempt_begins(self) -> None:
        half_open = self.circuit.state(self.now_s) is State.HALF_OPEN
        self.circuit = self.circuit.began(self.now_s)
        if half_open:
            assert self.circuit.wait_s(self.now_s) > 0, "a second attempt is let through while one is on its way"

    @rule()
    def an_attempt_works(self) -> None:
        self.circuit = self.circuit.succeeded()
        self.in_a_row = 0
        assert self.circuit.state(self.now_s) is State.CLOSED

    @rule()
    def an_attempt_fails(self) -> None:
        before, self.circuit = self.circuit, self.circuit.failed(self.now_s, "gone")
        self.in_a_row += 1
        if before.probing:
            assert self.circuit.state(self.now_s) is State.OPEN
            assert self.circuit.hold_s == min(POLICY.max_hold_s, 2 * before.hold_s)
        elif before.open_until_s is not None:
            assert self.circuit == before, "a late failure changed an open circuit"

    @rule()
    def a_caller_leaves(self) -> None:
        self.circuit = self.circuit.abandoned()

    @invariant()
    def it_is_closed_until_enough_failures_in_a_row(self) -> None:
        if self.in_a_row < POLICY.failures_to_open:
            assert self.circuit.state(self.now_s) is State.CLOSED
        else:
            assert self.circuit.state(self.now_s) is not State.CLOSED

    @invariant()
    def no_wait_is_longer_than_the_longest_hold(self) -> None:
        assert 0 <= self.circuit.wait_s(self.now_s) <= POLICY.max_hold_s


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(stateful_step_count=40)


def test_a_clock_that_rounds_up_makes_no_wait_longer_than_the_hold() -> None:
    now_s = 3.06
    assert (now_s + POLICY.first_hold_s) - now_s > POLICY.first_hold_s
    circuit = Circuit(POLICY)
    for _ in range(POLICY.failures_to_open):
        circuit = circuit.failed(now_s, "gone")

    assert circuit.wait_s(now_s) == POLICY.first_hold_s


@dataclass
class World:
    """Conversations without sockets: a clock, outcomes by URL, and what was asked when."""

    urls: tuple[str, ...] = (A,)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    answer_s: float = 0.1
    """Seconds that an attempt takes."""
    now_s: float = 1000.0
    asked: list[tuple[float, str]] = field(default_factory=list)
    sent: list[SendRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.endpoints = Endpoints(addresses(self.urls), POLICY)
        self.terms = ClientConfig(self.retry, clock=lambda: self.now_s, draw=lambda: 0.5)

    def call(
        self, outcomes: dict[str, list[Outcome]], deadline_s: float | None = None, heeds_circuit: bool = True
    ) -> RawResponse:
        """Carry a call through; the last outcome of a URL repeats."""
        deadline_at_s = None if deadline_s is None else self.now_s + deadline_s
        conversation = request_flow(
            Call("POST", "/score", b"{}", deadline_at_s, deadline_s, heeds_circuit), self.endpoints, self.terms
        )
        outcome: Outcome = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                answer: RawResponse = end.value
                return answer
            if isinstance(step, Sleep):
                self.now_s += step.seconds
                outcome = None
                continue
            url = step.url.removesuffix("/score")
            self.asked.append((self.now_s, url))
            self.sent.append(step)
            self.now_s += min(self.answer_s, step.read_timeout_s)
            outcome = outcomes[url].pop(0) if len(outcomes[url]) > 1 else outcomes[url][0]

    @property
    def order(self) -> str:
        """The URLs asked, as letters."""
        return "".join(url[-1] for _, url in self.asked)


@given(
    statuses=st.lists(st.sampled_from([*sorted(RETRYABLE), 0]), min_size=1, max_size=30),
    retry_after=st.none() | st.integers(0, 200).map(str),
    budget_s=st.floats(0, 100),
)
def test_no_attempt_begins_behind_the_budget_and_a_call_ends(
    statuses: list[int], retry_after: str | None, budget_s: float
) -> None:
    world = World(retry=RetryPolicy(budget_s=budget_s))

    with pytest.raises(RewardUnavailableError):
        world.call({A: [busy(status, retry_after) if status else GONE for status in statuses]})

    assert all(at_s - 1000.0 <= budget_s for at_s, _ in world.asked)
    assert world.now_s - 1000.0 <= budget_s + world.answer_s + 1e-6


@given(deadline_s=st.floats(0.01, 50), answer_s=st.floats(0, 300))
def test_a_deadline_bounds_the_call_and_the_service_is_told_what_is_left(
    deadline_s: float, answer_s: float
) -> None:
    world = World(urls=(A, B), answer_s=answer_s)

    with pytest.raises(RewardUnavailableError, match="deadline"):
        world.call({A: [GONE], B: [busy(503)]}, deadline_s)

    assert world.now_s - 1000.0 <= deadline_s + 1e-6
    for (at_s, _), send in zip(world.asked, world.sent, strict=True):
        left_s = 1000.0 + deadline_s - at_s
        assert left_s > 0
        assert float(send.headers["glassbox-deadline-s"]) == pytest.approx(left_s, abs=1e-3)
        assert send.read_timeout_s <= left_s
        assert send.connect_timeout_s <= left_s


def test_without_a_deadline_none_is_promised() -> None:
    world = World()
    world.call({A: [GOOD]})

    assert "glassbox-deadline-s" not in world.sent[0].headers
    assert world.sent[0].read_timeout_s == 180.0


def test_a_url_that_fails_hands_over_to_the_next_at_once() -> None:
    world = World(urls=(A, B))

    assert world.call({A: [GONE], B: [GOOD]}) == GOOD
    assert world.asked == [(1000.0, A), (1000.1, B)]


def test_two_services_that_swallow_every_attempt_end_the_call_with_the_budget() -> None:
    """Each attempt outlasts the other's pause, so that no wait ever looks at the budget."""
    world = World(urls=(A, B), retry=RetryPolicy(budget_s=60.0), answer_s=10.0)
    with pytest.raises(RewardUnavailableError, match="budget"):
        world.call({A: [GONE], B: [GONE] * 50 + [GOOD]})

    assert world.now_s <= 1000.0 + 60.0 + 10.0


def test_another_url_is_tried_even_when_the_first_used_up_the_budget() -> None:
    world = World(urls=(A, B), retry=RetryPolicy(budget_s=0.0))

    assert world.call({A: [busy(503)], B: [GOOD]}) == GOOD
    with pytest.raises(RewardUnavailableError):
        world.call({A: [GONE], B: [GONE]})
    assert world.order == "abab"


def test_a_url_that_keeps_failing_is_left_alone_until_its_hold_is_over_and_then_preferred_again() -> None:
    world = World(urls=(A, B))
    for _ in range(5):
        world.call({A: [GONE], B: [GOOD]})
    assert world.order == "ab" * 3 + "bb"

    world.now_s += POLICY.first_hold_s
    world.call({A: [GOOD], B: [GOOD]})
    world.call({A: [GOOD], B: [GOOD]})
    assert world.order.endswith("aa")


def test_in_the_half_open_state_one_call_tries_and_the_others_go_elsewhere() -> None:
    world = World(urls=(A, B))
    for _ in range(3):
        world.call({A: [GONE], B: [GOOD]})
    world.now_s += POLICY.first_hold_s

    trying = request_flow(Call("GET", "/info"), world.endpoints, world.terms)
    assert next(trying).url == "http://a/info"  # type: ignore[union-attr]
    world.asked.clear()
    world.call({A: [GOOD], B: [GOOD]})
    assert world.order == "b"

    trying.close()  # its caller was cancelled: the next one tries
    world.call({A: [GOOD], B: [GOOD]})
    assert world.order == "ba"


def test_an_overloaded_service_is_alive() -> None:
    """429 says come later; it opens no circuit, so other callers are not kept away."""
    world = World()
    with pytest.raises(RewardUnavailableError):
        world.call({A: [busy(429)]})

    assert world.endpoints.states(world.now_s) == [State.CLOSED]


def test_an_open_circuit_says_so_in_the_log_and_in_the_error(caplog: pytest.LogCaptureFixture) -> None:
    world = World(retry=RetryPolicy(budget_s=0.0))
    with caplog.at_level(logging.INFO, logger="reward_client"):
        for _ in range(3):
            with pytest.raises(RewardUnavailableError, match="connection refused"):
                world.call({A: [GONE]})
        with pytest.raises(RewardUnavailableError, match=r"0 attempt.*circuit of http://a is open for 1\.0 s"):
            world.call({A: [GOOD]})
        world.now_s += POLICY.first_hold_s
        world.call({A: [GOOD]})

    opened, closed = [record.getMessage() for record in caplog.records]
    assert opened.startswith(
        "circuit of http://a is open for 1.0 s (3 failures in a row, the last one ConnectError"
    )
    assert closed == "circuit of http://a closed: it answers again"


@given(outage_s=st.floats(0, 25))
def test_a_service_that_restarts_is_found_again_soon_and_without_an_error(outage_s: float) -> None:
    world = World()

    class UntilThen(list[Outcome]):
        def __getitem__(self, _: object) -> Outcome:  # type: ignore[override]
            return GONE if world.now_s < 1000.0 + outage_s else GOOD

    assert world.call({A: UntilThen([GONE])}) == GOOD
    assert world.now_s - 1000.0 <= 2 * outage_s + POLICY.first_hold_s


def test_a_service_that_says_when_to_come_back_is_asked_then_however_often_it_said_so() -> None:
    world = World(retry=RetryPolicy(budget_s=120.0))

    assert world.call({A: [*[busy(503, "2")] * 12, GOOD]}) == GOOD

    pauses = [then - before for (before, _), (then, _) in zip(world.asked, world.asked[1:], strict=False)]
    assert max(pauses) < 2.5


def test_standing_in_line_for_a_connection_says_nothing_of_the_service() -> None:
    world = World(retry=RetryPolicy(budget_s=2.0))
    with pytest.raises(RewardUnavailableError, match="PoolTimeout"):
        world.call({A: [TransportFailure(httpx.PoolTimeout("no free connection"))]}, deadline_s=30.0)

    assert world.endpoints.states(world.now_s) == [State.CLOSED]


def test_what_no_second_attempt_mends_is_not_tried_again() -> None:
    world = World()
    with pytest.raises(RewardError, match="LocalProtocolError"):
        world.call({A: [TransportFailure(httpx.LocalProtocolError("illegal header"))]})

    assert world.order == "a"


def test_the_question_whether_a_service_is_ready_is_always_asked_and_closes_the_circuit() -> None:
    """A loop that waits for a service to start must see it at once, however often it asked in vain."""
    world = World(retry=RetryPolicy(budget_s=0.0))
    for _ in range(5):
        with pytest.raises(RewardUnavailableError, match="1 attempt"):
            world.call({A: [GONE]}, heeds_circuit=False)
    assert world.endpoints.states(world.now_s) == [State.OPEN]

    assert world.call({A: [GOOD]}, heeds_circuit=False) == GOOD
    assert world.endpoints.states(world.now_s) == [State.CLOSED]
