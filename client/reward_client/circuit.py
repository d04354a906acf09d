"""A circuit breaker: when a URL that keeps failing is left alone. A pure state machine; time is an argument.

             n failures in a row                  hold over, one attempt is let through
    CLOSED ───────────────────────▶ OPEN ─────────────────────────▶ HALF-OPEN
       ▲                              ▲   the attempt failed: hold doubles  │
       │                              └─────────────────────────────────────┤
       └────────────────────────────────────── any success ─────────────────┘

A success from any state closes it: somebody is there. A failure that comes in while it is open is an attempt from
before and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["Circuit", "CircuitPolicy", "State"]


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a circuit opens, and for how long."""

    failures_to_open: int = 3
    """Failures in a row: one may be a connection that went stale, three are a service that is away."""
    first_hold_s: float = 1.0
    """Seconds that a URL is left alone at first; a service that restarts is found again soon after."""
    max_hold_s: float = 10.0
    """The hold doubles with each attempt that fails, up to this."""
    probe_poll_s: float = 0.25
    """Seconds after which a caller looks again whether somebody else's attempt in the half-open state worked."""


class State(StrEnum):
    """Whether a URL is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of one URL."""

    policy: CircuitPolicy = CircuitPolicy()
    failures: int = 0
    """In a row."""
    open_until_s: float | None = None
    hold_s: float = 0.0
    """Length of the latest hold."""
    probing: bool = False
    """An attempt of the half-open state is on its way."""
    cause: str = ""
    """Of the latest failure."""

    def state(self, now_s: float) -> State:
        """Whether the URL is asked at `now_s`."""
        if self.open_until_s is None:
            return State.CLOSED
        return State.OPEN if now_s < self.open_until_s else State.HALF_OPEN

    def wait_s(self, now_s: float) -> float:
        """Seconds until an attempt may begin, or another look is worth it; 0 when one may begin now."""
        if self.open_until_s is None:
            return 0.0
        if now_s < self.open_until_s:
            return min(self.hold_s, self.open_until_s - now_s)  # never longer by the rounding of a clock
        return self.policy.probe_poll_s if self.probing else 0.0

    def began(self, now_s: float) -> Circuit:
        """An attempt is made, as a rule only when `wait_s` is 0."""
        return replace(self, probing=self.state(now_s) is State.HALF_OPEN)

    def succeeded(self) -> Circuit:
        """The service answered."""
        return Circuit(self.policy)

    def failed(self, now_s: float, cause: str, asked_s: float | None = None) -> Circuit:
        """Nobody answered, or only to say that it cannot and, it may be, in how many seconds to ask again."""
        failures = self.failures + 1
        known = replace(self, failures=failures, cause=cause)
        if self.open_until_s is None:
            return known._opened(now_s, asked_s) if failures >= self.policy.failures_to_open else known
        return known._opened(now_s, asked_s) if self.probing else self

    def abandoned(self) -> Circuit:
        """The caller left before its attempt had an outcome."""
        return replace(self, probing=False)

    def _opened(self, now_s: float, asked_s: float | None) -> Circuit:
        hold_s = min(self.policy.max_hold_s, max(self.policy.first_hold_s, 2 * self.hold_s))
        if asked_s is not None:  # it is there, and knows better: a service that starts is up soon
            hold_s = min(hold_s, asked_s)
        return replace(self, hold_s=hold_s, open_until_s=now_s + hold_s, probing=False)
