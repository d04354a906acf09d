"""Two ways to generate load: as fast as responses arrive (closed loop), or at a fixed rate (open loop).

closed_loop(action, clients, seconds)  each client sends its next request after its response ──▶ actions per second
open_loop(action, rate, seconds)       arrivals at fixed times, whether or not earlier ones have ended
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

__all__ = ["OpenLoop", "closed_loop", "open_loop", "percentiles", "quantile"]

Action = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class OpenLoop:
    """What an open loop sent."""

    sent: int
    skipped: int
    """Arrivals that were not sent, because too many requests were outstanding."""
    max_lag_s: float
    """The longest delay of an arrival behind its time: the lateness of the load generator."""
    seconds: float
    """From the first arrival to the last, without the responses after it."""


async def closed_loop(action: Action, clients: int, seconds: float) -> float:
    """Let `clients` repeat `action` for `seconds`; actions per second."""
    started, n_actions = time.monotonic(), 0

    async def client() -> None:
        nonlocal n_actions
        while time.monotonic() < started + seconds:
            await action()
            n_actions += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return n_actions / (time.monotonic() - started)


async def open_loop(action: Action, rate: float, seconds: float, max_outstanding: int) -> OpenLoop:
    """Start `rate` actions per second for `seconds`, at most `max_outstanding` at once; return after the last."""
    started, sent, skipped, max_lag_s = time.monotonic(), 0, 0, 0.0
    outstanding: set[asyncio.Task[object]] = set()
    async with asyncio.TaskGroup() as group:  # an action that raises ends the scenario
        for number in range(int(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            max_lag_s = max(max_lag_s, time.monotonic() - due)
            if len(outstanding) >= max_outstanding:
                skipped += 1
                continue
            task = group.create_task(_awaited(action))
            outstanding.add(task)
            task.add_done_callback(outstanding.discard)
            sent += 1
        lasted = time.monotonic() - started
    return OpenLoop(sent, skipped, max_lag_s, lasted)


async def _awaited(action: Action) -> object:
    return await action()


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` do not exceed; NaN without values."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, round(share * 1000) - 1)]


def percentiles(seconds: Sequence[float]) -> str:
    """p50, p99 and maximum, as text."""
    return f"{quantile(seconds, 0.5):.2f} s, {quantile(seconds, 0.99):.2f} s, {max(seconds, default=0.0):.2f} s"
