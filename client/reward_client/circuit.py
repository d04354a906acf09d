"""A circuit breaker: skips a URL that keeps failing. A pure state machine; the time is an argument.

             n failures in a row              open time over, one attempt is let through
    CLOSED ───────────────────────▶ OPEN ──────────────────────────────▶ HALF-OPEN
       ▲                              ▲   the attempt failed: open twice as long   │
       │                              └────────────────────────────────────────────┤
       └────────────────────────────────────── any success ────────────────────────┘

A success closes the circuit in any state. A failure while it is open belongs to an attempt that began before, and
changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


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

    def began(self, now_s: float) -> Circuit:
        """The circuit after an attempt began, normally with `wait_s` at 0."""
        return replace(self, probing=self.state(now_s) is State.HALF_OPEN)

    def succeeded(self) -> Circuit:
        """The circuit after the service responded."""
        return Circuit(self.policy)

    def failed(self, now_s: float, cause: str, retry_after_s: float | None = None) -> Circuit:
        """The circuit after a failure: no response, or 502–504, which may contain `Retry-After`."""
        failures = self.failures + 1
        failed = replace(self, failures=failures, cause=cause)
        if self.open_until_s is None:
            return failed._opened(now_s, retry_after_s) if failures >= self.policy.failures_to_open else failed
        return failed._opened(now_s, retry_after_s) if self.probing else self

    def abandoned(self) -> Circuit:
        """The circuit after an attempt was cancelled."""
        return replace(self, probing=False)

    def _opened(self, now_s: float, retry_after_s: float | None) -> Circuit:
        open_s = min(self.policy.max_open_s, max(self.policy.first_open_s, 2 * self.open_s))
        if retry_after_s is not None:  # a starting service knows better when it will be ready
            open_s = min(open_s, retry_after_s)
        return replace(self, open_s=open_s, open_until_s=now_s + open_s, probing=False)
