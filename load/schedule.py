"""Two ways to offer load: as fast as answers come (closed loop), and at a rate of our own (open loop).

closed(act, callers, seconds)  ── each caller asks again when it has its answer ──▶ acts a second
paced(act, per_s, seconds)     ── arrivals at fixed times, whether or not answers come
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

__all__ = ["Paced", "closed", "paced", "quantile", "spread"]

Act = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Paced:
    """What an open loop did."""

    sent: int
    skipped: int
    """Arrivals that were not sent, because too many were waiting for their answers."""
    max_lag_s: float
    """The latest that one was sent after its time: our own lateness."""
    seconds: float
    """From the first arrival to the last, without the answers that came after it."""


async def closed(act: Act, callers: int, seconds: float) -> float:
    """Let `callers` act one after the other for `seconds`; acts a second."""
    started, n_acts = time.monotonic(), 0

    async def caller() -> None:
        nonlocal n_acts
        while time.monotonic() < started + seconds:
            await act()
            n_acts += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return n_acts / (time.monotonic() - started)


async def paced(act: Act, per_s: float, seconds: float, max_outstanding: int) -> Paced:
    """Act at `per_s` for `seconds`, at most `max_outstanding` at a time; return when all have ended."""
    started, sent, skipped, max_lag_s = time.monotonic(), 0, 0, 0.0
    outstanding: set[asyncio.Task[object]] = set()
    async with asyncio.TaskGroup() as group:  # an act that raises ends the scenario
        for number in range(int(per_s * seconds)):
            due = started + number / per_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            max_lag_s = max(max_lag_s, time.monotonic() - due)
            if len(outstanding) >= max_outstanding:
                skipped += 1
                continue
            task = group.create_task(_awaited(act))
            outstanding.add(task)
            task.add_done_callback(outstanding.discard)
            sent += 1
        lasted = time.monotonic() - started
    return Paced(sent, skipped, max_lag_s, lasted)


async def _awaited(act: Act) -> object:
    return await act()


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` do not exceed; NaN when there are none."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, round(share * 1000) - 1)]


def spread(seconds: Sequence[float]) -> str:
    """p50, p99 and the longest, in words."""
    return f"{quantile(seconds, 0.5):.2f} s, {quantile(seconds, 0.99):.2f} s, {max(seconds, default=0.0):.2f} s"
