"""The circuit breaker of a URL, in any order of attempts, outcomes and times."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reward_client.endpoints import Circuit, CircuitPolicy, State

POLICY = CircuitPolicy(failures_to_open=3, first_open_s=1.0, max_open_s=8.0)


class CircuitMachine(RuleBasedStateMachine):
    """The circuit's invariants hold for any order of attempts, outcomes and times."""

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
            assert self.circuit.wait_s(self.now_s) > 0, "a second attempt is allowed while one is in progress"

    @rule()
    def an_attempt_works(self) -> None:
        self.circuit = self.circuit.succeeded()
        self.in_a_row = 0
        assert self.circuit.state(self.now_s) is State.CLOSED

    @rule()
    def an_attempt_fails(self) -> None:
        before, self.circuit = self.circuit, self.circuit.failed(self.now_s, "connection refused")
        self.in_a_row += 1
        if before.probing:
            assert self.circuit.state(self.now_s) is State.OPEN
            assert self.circuit.open_s == min(POLICY.max_open_s, 2 * before.open_s)
        elif before.open_until_s is not None:
            assert self.circuit == before, "a late failure changed an open circuit"

    @rule()
    def an_attempt_is_cancelled(self) -> None:
        self.circuit = self.circuit.abandoned()

    @invariant()
    def it_is_closed_until_enough_failures_in_a_row(self) -> None:
        if self.in_a_row < POLICY.failures_to_open:
            assert self.circuit.state(self.now_s) is State.CLOSED
        else:
            assert self.circuit.state(self.now_s) is not State.CLOSED

    @invariant()
    def no_wait_is_longer_than_the_longest_open_time(self) -> None:
        assert 0 <= self.circuit.wait_s(self.now_s) <= POLICY.max_open_s


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(stateful_step_count=40)


def test_rounding_makes_no_wait_longer_than_the_open_time() -> None:
    now_s = 3.06
    assert (now_s + POLICY.first_open_s) - now_s > POLICY.first_open_s
    circuit = Circuit(POLICY)
    for _ in range(POLICY.failures_to_open):
        circuit = circuit.failed(now_s, "connection refused")

    assert circuit.wait_s(now_s) == POLICY.first_open_s
