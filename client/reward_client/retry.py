"""Retry policy: pure functions, without clock, socket or random numbers.

A missing response and the statuses of the policy are retried. The delay is that of a reasonable `Retry-After`, or
else exponential with full jitter. The policy's budget bounds the time until the last retry.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRYABLE = frozenset({408, 425, 429, 502, 503, 504})
"""HTTP statuses that a later attempt can turn into a success."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds on retries."""

    budget_s: float = 120.0
    """Seconds from the first attempt during which a URL may be retried. 0 never retries."""
    first_delay_s: float = 0.25
    """Upper end of the first jittered delay; it doubles with each attempt."""
    max_delay_s: float = 8.0
    """Upper bound of a delay that is not set by `Retry-After`."""
    max_retry_after_s: float = 120.0
    """A longer `Retry-After` is considered a mistake and ignored."""
    statuses: frozenset[int] = RETRYABLE
    """HTTP statuses that are retried."""


def backoff_s(policy: RetryPolicy, *, attempt: int, retry_after_s: float | None, jitter: float) -> float:
    """Seconds to wait before the next attempt at the same URL.

    Args:
        policy: the bounds.
        attempt: number of attempts so far, from 1.
        retry_after_s: the service's `Retry-After`, a lower bound. A small jitter is added to it, so that clients
            that were rejected together do not retry together.
        jitter: a random number in [0, 1), for full jitter (AWS blog, "Exponential backoff and jitter").
    """
    if retry_after_s is not None and 0 <= retry_after_s <= policy.max_retry_after_s:
        return retry_after_s + policy.first_delay_s * jitter
    return min(policy.max_delay_s, policy.first_delay_s * 2.0 ** min(attempt - 1, 30)) * jitter


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """`Retry-After` in seconds from `now`; None when absent, negative, or in a form that RFC 9110 lacks."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = parsedate_to_datetime(value)
        except ValueError:
            return None
        return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds())
    return seconds if seconds >= 0 else None
