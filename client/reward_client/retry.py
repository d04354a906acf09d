"""When to ask again: a pure decision, without clock, socket or randomness of its own.

Only what can heal is tried again: no answer, or a status in `RETRYABLE`. The wait is what the service asked for in
`Retry-After`, when that is sane, else exponential with full jitter; all waits together stay inside a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["RETRYABLE", "RetryPolicy", "backoff_s", "parse_retry_after"]

RETRYABLE = frozenset({408, 425, 429, 502, 503, 504})
"""HTTP statuses that a later attempt can turn into a success."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds on asking again."""

    budget_s: float = 120.0
    """Seconds from the first attempt after which no URL is asked a second time. 0 never retries."""
    first_delay_s: float = 0.25
    """Upper end of the first jittered wait; it doubles with each attempt."""
    max_delay_s: float = 8.0
    """No single wait of our own choosing is longer."""
    max_retry_after_s: float = 120.0
    """A longer `Retry-After` is taken for a mistake and ignored."""


def backoff_s(policy: RetryPolicy, *, attempt: int, retry_after_s: float | None, jitter: float) -> float:
    """Seconds to leave a service alone after an attempt that may heal.

    Args:
        policy: the bounds.
        attempt: attempts made so far, from 1.
        retry_after_s: what the service asked for, if it did; never undercut, and spread a little, so that callers
            that were refused together do not come back together.
        jitter: a draw from [0, 1), full jitter (AWS architecture blog, "Exponential backoff and jitter").
    """
    if retry_after_s is not None and 0 <= retry_after_s <= policy.max_retry_after_s:
        return retry_after_s + policy.first_delay_s * jitter
    return min(policy.max_delay_s, policy.first_delay_s * 2.0 ** min(attempt - 1, 30)) * jitter


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """`Retry-After` in seconds from `now`; None when absent, past all sense, or in no form of RFC 9110."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now or datetime.now(UTC))
    return seconds if seconds >= 0 else None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())
