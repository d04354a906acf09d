"""How long whom may be kept waiting: the one table, and the one place that holds.

A client that does not survive a refusal is held while models load, while their queues are full and while the
memory for bodies is taken; a client that knows what to do with a refusal gets it at once, with a Retry-After.

    arrives ─▶ a line? ─no─▶ admitted, or refused ─▶ held, at the line's end ─▶ its head tries until it is admitted
                   └─yes──────────────────────────▶ held, or refused as its head was

First come, first served: nobody is admitted past those who wait in the same line, and one line does not wait for
another. Nothing is computed for who waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, get_args

from reward_service.admission.cancellation import CancelledByEventError, cancel_on
from reward_service.admission.drain import Drain
from reward_service.errors import NoRoomError, NotReadyError, OverloadedError, UnavailableError
from reward_service.telemetry.admission_metrics import AdmissionMetrics

__all__ = ["HOLD_POLICIES", "AdmissionHold", "HoldPolicy", "Line", "Protocol"]

Protocol = Literal["score", "openrlhf", "slime", "areal"]


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """Seconds that a protocol's clients can wait."""

    hold_s: float
    """For admission. 0: they are refused at once, and know what to do."""
    answer_s: float
    """For the whole answer: a little less than what makes them hang up."""


HOLD_POLICIES: dict[Protocol, HoldPolicy] = {
    "score": HoldPolicy(hold_s=0, answer_s=float("inf")),  # our client obeys Retry-After, for minutes
    "openrlhf": HoldPolicy(hold_s=150, answer_s=175),  # hangs up after 180 s; five quick refusals end a run
    "slime": HoldPolicy(hold_s=100, answer_s=115),  # hangs up after 120 s
    "areal": HoldPolicy(hold_s=12, answer_s=14),  # hangs up after 15 s, and then trains on 0
}

Line = Literal["body", "white-box", "gold"]
"""What one can wait for: memory for a body, the models of a job without a gold score, and those of one with it."""

RETRYABLE = (NotReadyError, OverloadedError, NoRoomError)
_PAUSE_S = 0.05
"""Seconds between two tries of the head of a line; a try costs nearly nothing."""


class AdmissionQueue:
    """Who waits for the same thing: a lock whose holder is the head, and whose waiters are served in order."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.length = 0
        self.refusal: UnavailableError | None = None
        """Why the head, or whoever tried last, was not admitted."""

    def refuse(self) -> UnavailableError:
        """The last refusal, for another caller."""
        assert self.refusal is not None, "a line begins with a refusal"  # noqa: S101
        return type(self.refusal)(str(self.refusal), self.refusal.retry_after_s)


class AdmissionHold:
    """Holds requests until they are admitted, their patience ends, or the service stops."""

    def __init__(self, max_hold_s: float, drain: Drain, metrics: AdmissionMetrics) -> None:
        self._max_hold_s = max_hold_s
        self._drain = drain
        self._metrics = metrics
        self._lines: dict[Line, AdmissionQueue] = {name: AdmissionQueue() for name in get_args(Line)}

    async def admit(
        self,
        protocol: Protocol,
        line: Line,
        attempt: Callable[[], Awaitable[None]],
        ready: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Return when `attempt` was not refused.

        Args:
            protocol: whose patience applies.
            line: what is waited for.
            attempt: raises one of `RETRYABLE` when it is refused; each call is a new try. When this method raises,
                the last try may have succeeded: the caller gives back what it took in any case.
            ready: returns when what `attempt` needs is loaded; raises NotReadyError when it cannot be.

        Raises:
            DrainingError: the service was told to stop while this was held.
            NotReadyError, OverloadedError, NoRoomError: the refusal, when patience is over.
        """
        waiting = self._lines[line]
        if not waiting.length and await _admitted(waiting, attempt):
            return
        hold_s = min(HOLD_POLICIES[protocol].hold_s, self._max_hold_s)
        if not hold_s:
            raise waiting.refuse()
        began, outcome = time.monotonic(), "ended"
        waiting.length += 1
        self._metrics.holding(protocol, 1)
        try:
            async with asyncio.timeout(hold_s):
                await cancel_on(self._drain.begun(), _in_turn(waiting, attempt, ready))
            outcome = "admitted"
        except CancelledByEventError:
            self._drain.check()
        except TimeoutError:
            outcome = "refused"
            raise waiting.refuse() from None
        finally:
            waiting.length -= 1
            self._metrics.holding(protocol, -1)
            self._metrics.held(protocol, outcome, time.monotonic() - began)


async def _in_turn(
    line: AdmissionQueue, attempt: Callable[[], Awaitable[None]], ready: Callable[[], Awaitable[object]] | None
) -> None:
    """Wait for the head of the line, then try until admitted."""
    async with line.turn:
        while not await _admitted(line, attempt):
            if isinstance(line.refusal, NotReadyError) and ready is not None:
                await ready()
            await asyncio.sleep(_PAUSE_S)


async def _admitted(line: AdmissionQueue, attempt: Callable[[], Awaitable[None]]) -> bool:
    """Whether this try was not refused; if it was, the line knows why."""
    try:
        await attempt()
    except RETRYABLE as refusal:
        line.refusal = refusal
        return False
    return True
