"""Endpoints of a client: its URLs, each with a circuit breaker that skips a URL which keeps failing.

             n failures in a row              open time over, one attempt is let through
    CLOSED ───────────────────────▶ OPEN ──────────────────────────────▶ HALF-OPEN
       ▲                              ▲   the attempt failed: open twice as long   │
       │                              └────────────────────────────────────────────┤
       └────────────────────────────────────── any success ────────────────────────┘

A success closes the circuit in any state. A failure while it is open belongs to an attempt that began before, and
changes nothing. `Circuit` is a pure state machine; the time is an argument. `Endpoints` is the only state that
concurrent calls share, so it has a lock. URLs are in order of preference: the first one available is selected.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from reward_client.urls import Address


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a circuit opens, and for how long."""

    failures_to_open: int = 3
    """Failures in a row: a single one may be a stale connection, three mean that the service is down."""
    first_open_s: float = 1.0
    """Seconds for which a circuit opens at first; short, so that a restarted service is used again soon."""
    max_open_s: float = 10.0
    """Upper bound: the open time doubles with each attempt that fails."""
    probe_poll_s: float = 0.25
    """Seconds between checks, by the other callers, whether the attempt in the half-open state succeeded."""


class State(StrEnum):
    """State of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit of one URL."""

    policy: CircuitPolicy = CircuitPolicy()
    failures: int = 0
    """In a row."""
    open_until_s: float | None = None
    open_s: float = 0.0
    """Length of the latest open time."""
    probing: bool = False
    """An attempt of the half-open state is in progress."""
    cause: str = ""
    """Cause of the latest failure."""

    def state(self, now_s: float) -> State:
        """The state at `now_s`."""
        if self.open_until_s is None:
            return State.CLOSED
        return State.OPEN if now_s < self.open_until_s else State.HALF_OPEN

    def wait_s(self, now_s: float) -> float:
        """Seconds until an attempt may begin or the state should be checked again; 0: an attempt may begin now."""
        if self.open_until_s is None:
            return 0.0
        if now_s < self.open_until_s:
            return min(self.open_s, self.open_until_s - now_s)  # rounding must not make it longer
        return self.policy.probe_poll_s if self.probing else 0.0

    def began(self, now_s: float) -> Self:
        """The circuit after an attempt began, normally with `wait_s` at 0."""
        return replace(self, probing=self.state(now_s) is State.HALF_OPEN)

    def succeeded(self) -> Self:
        """The circuit after the service responded."""
        return type(self)(self.policy)

    def failed(self, now_s: float, cause: str, retry_after_s: float | None = None) -> Self:
        """The circuit after a failure: no response, or 502–504, which may contain `Retry-After`."""
        failures = self.failures + 1
        failed = replace(self, failures=failures, cause=cause)
        if self.open_until_s is None:
            return failed._opened(now_s, retry_after_s) if failures >= self.policy.failures_to_open else failed
        return failed._opened(now_s, retry_after_s) if self.probing else self

    def abandoned(self) -> Self:
        """The circuit after an attempt was cancelled."""
        return replace(self, probing=False)

    def _opened(self, now_s: float, retry_after_s: float | None) -> Self:
        open_s = min(self.policy.max_open_s, max(self.policy.first_open_s, 2 * self.open_s))
        if retry_after_s is not None:  # a starting service knows better when it will be ready
            open_s = min(open_s, retry_after_s)
        return replace(self, open_s=open_s, open_until_s=now_s + open_s, probing=False)


_logger = logging.getLogger("reward_client")


class Endpoints:
    """Addresses and their circuits; safe to share between threads and tasks."""

    def __init__(self, addresses: Sequence[Address], policy: CircuitPolicy) -> None:
        self.addresses = tuple(addresses)
        self._circuits = [Circuit(policy) for _ in self.addresses]
        self._lock = threading.Lock()

    def begin(
        self, not_before_s: Mapping[int, float], now_s: float, *, respect_circuit: bool = True
    ) -> tuple[int, float]:
        """Select an address, and record that an attempt begins there if it need not wait.

        Args:
            not_before_s: earliest times for retries of this call, by index of the address.
            now_s: the current time.
            respect_circuit: whether an address with an open circuit is skipped.

        Returns:
            The index of the address, and the seconds until an attempt there may begin.
        """
        with self._lock:
            waits = [
                max(circuit.wait_s(now_s) if respect_circuit else 0.0, not_before_s.get(index, now_s) - now_s)
                for index, circuit in enumerate(self._circuits)
            ]
            index = min(range(len(waits)), key=waits.__getitem__)
            if waits[index] <= 0:
                self._circuits[index] = self._circuits[index].began(now_s)
            return index, max(0.0, waits[index])

    def succeeded(self, index: int, now_s: float) -> None:
        """Record that the service at `index` responded."""
        with self._lock:
            before, self._circuits[index] = self._circuits[index], self._circuits[index].succeeded()
        if before.state(now_s) is not State.CLOSED:
            _logger.debug("circuit of %s closed: it responds again", self.addresses[index].url)

    def failed(self, index: int, now_s: float, cause: str, retry_after_s: float | None = None) -> None:
        """Record that `index` did not respond, or cannot serve any request for `retry_after_s` seconds."""
        with self._lock:
            before = self._circuits[index]
            after = self._circuits[index] = before.failed(now_s, cause, retry_after_s)
        if after.open_until_s is not None and after.open_until_s != before.open_until_s:
            _logger.debug("%s", self._describe(index, now_s))

    def abandoned(self, index: int) -> None:
        """Record that the attempt at `index` was cancelled."""
        with self._lock:
            self._circuits[index] = self._circuits[index].abandoned()

    def states(self, now_s: float) -> list[State]:
        """State of each circuit."""
        return [circuit.state(now_s) for circuit in self._circuits]

    def open_circuits(self, now_s: float) -> list[str]:
        """Describe each circuit that is not closed."""
        states = self.states(now_s)
        return [self._describe(i, now_s) for i, state in enumerate(states) if state is not State.CLOSED]

    def _describe(self, index: int, now_s: float) -> str:
        circuit, url = self._circuits[index], self.addresses[index].url
        why = f"{circuit.failures} failures in a row, the last one: {circuit.cause}"
        if circuit.state(now_s) is State.HALF_OPEN:
            return f"circuit of {url} is half-open, and another call is trying it ({why})"
        return f"circuit of {url} is open for {circuit.wait_s(now_s):.1f} s ({why})"
