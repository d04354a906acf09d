"""When to ask again: a pure decision, without clock, socket or randomness of its own.

Only what can heal is tried again: no connection, or a status in `RETRYABLE`. The wait is what the service
asked for in `Retry-After`, when that is sane, else exponential with full jitter; all waits together stay
inside a budget in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RETRYABLE", "RetryPolicy", "parse_retry_after", "retry_delay"]

RETRYABLE = frozenset({408, 425, 429, 502, 503, 504})
"""HTTP statuses that a later attempt can turn into a success."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds on asking again."""

    budget_s: float = 60.0
    """Seconds from the first attempt after which no new attempt starts. 0 never retries."""
    first_delay_s: float = 0.25
    """Upper end of the first jittered wait; it doubles with each attempt."""
    max_delay_s: float = 8.0
    """No single wait of our own choosing is longer."""
    max_retry_after_s: float = 120.0
    """A longer `Retry-After` is taken for a mistake and ignored."""


def retry_delay(
    policy: RetryPolicy, *, attempt: int, elapsed_s: float, retry_after_s: float | None, jitter: float
) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    Args:
        policy: the bounds.
        attempt: attempts made so far, from 1.
        elapsed_s: seconds since the first attempt began.
        retry_after_s: what the service asked for, if it did.
        jitter: a draw from [0, 1), full jitter (AWS architecture blog, "Exponential backoff and jitter").
    """
    if retry_after_s is not None and 0 <= retry_after_s <= policy.max_retry_after_s:
        delay = retry_after_s
    else:
        ceiling = min(policy.max_delay_s, policy.first_delay_s * 2.0 ** min(attempt - 1, 30))
        delay = ceiling * jitter
    return delay if elapsed_s + delay < policy.budget_s else None


def parse_retry_after(value: str | None) -> float | None:
    """`Retry-After` in seconds; None when absent or in a form we do not read (dates are rare here)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if seconds >= 0 else None
