"""How long whom may be kept waiting: the one table, and the one place that holds.

A client that does not survive a refusal is held while models load, while their queues are full and while the
memory for bodies is taken; a client that knows what to do with a refusal gets it at once, with a Retry-After. What
is held tries again by itself, at a pace that all who are held share; nothing is computed for it in the meantime.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from reward_service.api.drain import Drain
from reward_service.api.edge_metrics import EdgeMetrics
from reward_service.api.race import OvertakenError, unless
from reward_service.errors import NoRoomError, NotReadyError, OverloadedError, UnavailableError

__all__ = ["PATIENCE", "Holder", "Patience", "Protocol", "next_try_s"]

T = TypeVar("T")
Protocol = Literal["score", "openrlhf", "slime", "areal"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a protocol's clients can wait."""

    hold_s: float
    """For admission. 0: they are refused at once, and know what to do."""
    answer_s: float
    """For the whole answer: a little less than what makes them hang up."""


PATIENCE: dict[Protocol, Patience] = {
    "score": Patience(hold_s=0, answer_s=float("inf")),  # our client obeys Retry-After, for minutes
    "openrlhf": Patience(hold_s=150, answer_s=175),  # hangs up after 180 s; five quick refusals end a run
    "slime": Patience(hold_s=100, answer_s=115),  # hangs up after 120 s
    "areal": Patience(hold_s=12, answer_s=14),  # hangs up after 15 s, and then trains on 0
}

_HEALS = (NotReadyError, OverloadedError, NoRoomError)
_MIN_S, _MAX_S = 0.05, 1.0
_TRIES_PER_S = 1000.0


def next_try_s(retry_after_s: float, held: int, jitter: float) -> float:
    """Seconds until the next try of one of `held` requests: soon, never in step, about 1000 a second together.

    Args:
        retry_after_s: what the refusal asked for.
        held: how many requests wait like this one.
        jitter: in [0, 1).
    """
    return max(min(max(retry_after_s, _MIN_S), _MAX_S), held / _TRIES_PER_S) * (0.5 + jitter)


class Holder:
    """Holds requests until they are admitted, their patience ends, or the service stops."""

    def __init__(self, max_hold_s: float, drain: Drain, metrics: EdgeMetrics) -> None:
        self._max_hold_s = max_hold_s
        self._drain = drain
        self._metrics = metrics
        self._held = 0

    async def admit(
        self,
        protocol: Protocol,
        attempt: Callable[[], Awaitable[T]],
        ready: Callable[[], Awaitable[object]] | None = None,
    ) -> T:
        """What `attempt` returns, at the first time that it is not refused.

        Args:
            protocol: whose patience applies.
            attempt: raises one of `_HEALS` when it is refused; each call is a new try.
            ready: returns when what `attempt` needs is loaded; raises NotReadyError when it cannot be.

        Raises:
            DrainingError: the service was told to stop while this was held.
            NotReadyError, OverloadedError, NoRoomError: the refusal, when patience is over.
        """
        until = time.monotonic() + min(PATIENCE[protocol].hold_s, self._max_hold_s)
        held_s = 0.0
        while True:
            began = time.monotonic()
            try:
                result = await attempt()
            except _HEALS as refusal:
                if began >= until:
                    self._report(protocol, "refused", held_s)
                    raise
                await self._wait(protocol, refusal, until - began, ready)
                held_s += time.monotonic() - began
            else:
                self._report(protocol, "admitted", held_s)
                return result

    async def _wait(
        self,
        protocol: Protocol,
        refusal: UnavailableError,
        left_s: float,
        ready: Callable[[], Awaitable[object]] | None,
    ) -> None:
        """Return when another try makes sense, after `left_s` at the latest."""
        self._change(protocol, 1)
        try:
            async with asyncio.timeout(left_s):
                if isinstance(refusal, NotReadyError) and ready is not None:
                    await unless(self._drain.begun(), _call(ready))
                pause_s = next_try_s(refusal.retry_after_s, self._held, random.random())
                await unless(self._drain.begun(), asyncio.sleep(pause_s))
        except TimeoutError:
            return  # one last try
        except OvertakenError:
            self._drain.check()
        finally:
            self._change(protocol, -1)

    def _change(self, protocol: Protocol, by: int) -> None:
        self._held += by
        self._metrics.holding(protocol, by)

    def _report(self, protocol: Protocol, outcome: str, held_s: float) -> None:
        if held_s:
            self._metrics.held(protocol, outcome, held_s)


async def _call(ready: Callable[[], Awaitable[object]]) -> None:
    await ready()
