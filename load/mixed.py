"""Every kind of request at once at 70 % of the capacity, for a long time; memory and rewards are checked.

    OpenRLHF posts, batches, gold on some, invalid requests, disconnects, repeated requests, known items
    (workload.py) ── at the rate of an open loop; /metrics and /readyz are polled at the same time

Texts are always new, except for the known items, whose rewards must not change. The vector cache is small
(`--cache-bytes`), so that it is full early. A line is fitted to the resident memory (RSS of all processes) after
the first third of the time; its rise until the end is the growth.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from load.growth import Growth, fit
from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import OpenLoop, closed_loop, open_loop, percentiles
from load.service import MIB, Service, Usage, UsageSampler, raise_descriptor_limit
from load.workload import JSON_HEADERS, SHARES, Workload
from tools.console import log
from tools.load_clients import TOLERANCE

__all__ = ["run"]

_CACHE_BYTES = 16 * 2**20
_SHARE = 0.7
_CLIENTS = 8
"""Clients of the closed loop that measures the capacity for this workload."""
_MEASURES = 3
"""Times as long as in other scenarios: the actions differ more than requests of one kind."""
_MAX_OUTSTANDING = 512
_MAX_SKIPPED = 0.01
_MAX_GROWTH = 0.05
_MIN_RATE = 0.9
_MIN_FILLED = 1.0
"""Encoded bytes as a multiple of the cache size, without the overhead of its entries."""
_MAX_DESCRIPTORS = 5
_IDLE_S = 15.0
"""Seconds within which the service closes connections of clients that have disconnected."""
_IDLE_SAMPLES = 5
_SAMPLE_S = 5.0
_POLL_S = 5.0
_MINUTE_S = 60.0
_VECTOR_BYTES = 384 * 4
"""Size of one vector of the embedded encoder."""
_TIMEOUT = aiohttp.ClientTimeout(total=180)


@dataclass(frozen=True)
class _Outcome:
    """Measurements of the mixed load."""

    workload: Workload
    capacity: float
    """Actions per second in the closed loop."""
    offered: OpenLoop
    usage: UsageSampler
    growth: Growth
    idle_before: Usage
    idle_after: Usage


def run(plan: Plan) -> list[Findings]:
    """Run the mixed load for the duration of the plan."""
    raise_descriptor_limit()
    with Service(plan.folder / "mixed.log", "--cache-bytes", str(_CACHE_BYTES)) as service:
        outcome = asyncio.run(_mixed_load(service, plan))
        encoded = service.metric('glassbox_texts_total{source="encoded"}')
    done = (
        f"{plan.mixed_s / 60:.0f} minutes at {_SHARE:.0%} of the rate that a closed loop of the same workload "
        f"reached just before: {', '.join(f'{share} % {kind}' for kind, share in SHARES.items())}; "
        f"--cache-bytes {_CACHE_BYTES}. /metrics and /readyz every {_POLL_S:.0f} s."
    )
    return [Findings("mixed", done, _checks(outcome, encoded), _figures(outcome))]


async def _mixed_load(service: Service, plan: Plan) -> _Outcome:
    async with _session() as session:
        warm = Workload(service.url, session, "warm")
        await warm.score_known_items()
        capacity = await closed_loop(warm.act, _CLIENTS, _MEASURES * plan.measure_s)
    idle_before = await _idle_usage(service)
    rates = f"{capacity:.1f} actions/s in a closed loop; {_SHARE * capacity:.1f} offered"
    log(f"mixed: {rates}; idle {_usage_text(idle_before)}")
    async with _session() as session:
        workload = Workload(service.url, session, "mixed")
        await workload.score_known_items()
        with UsageSampler(service, every_s=_SAMPLE_S) as usage:
            background = [
                asyncio.create_task(_poll(workload, service.url, session)),
                asyncio.create_task(_log_every_minute(workload, usage)),
            ]
            offered = await open_loop(workload.act, _SHARE * capacity, plan.mixed_s, _MAX_OUTSTANDING)
            await _cancel(background)
    workload.n_unexpected += warm.n_unexpected
    workload.unexpected += warm.unexpected
    growth = fit([(sample.at_s, float(sample.rss_bytes)) for sample in usage.samples])
    return _Outcome(workload, capacity, offered, usage, growth, idle_before, await _idle_usage(service))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_TIMEOUT, headers=JSON_HEADERS)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel background tasks; raise the exception of one that ended before."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _idle_usage(service: Service) -> Usage:
    """The sample with the fewest descriptors without load; idle connections are closed after a while."""
    samples = []
    for _ in range(_IDLE_SAMPLES):
        await asyncio.sleep(_IDLE_S / _IDLE_SAMPLES)
        samples.append(service.usage())
    return min(samples, key=lambda usage: usage.descriptors)


async def _poll(workload: Workload, url: str, session: aiohttp.ClientSession) -> None:
    while True:
        for path in ("/metrics", "/readyz"):
            try:
                async with session.get(f"{url}{path}") as response:
                    await response.read()
                    outcome = f"status {response.status}"
            except (aiohttp.ClientError, TimeoutError) as exc:
                outcome = f"{type(exc).__name__}: {exc}"
            workload.outcomes[f"{path}: {outcome}"] += 1
            if outcome != "status 200":
                workload.record_unexpected(f"{path}: {outcome}")
        await asyncio.sleep(_POLL_S)


async def _log_every_minute(workload: Workload, usage: UsageSampler) -> None:
    minute = 0
    while True:
        await asyncio.sleep(_MINUTE_S)
        minute += 1
        log(f"mixed: minute {minute}: {_usage_text(usage.samples[-1])}; {_outcomes_text(workload)}")


def _usage_text(usage: Usage) -> str:
    return f"{usage.rss_mib:.0f} MiB, {usage.descriptors} descriptors"


def _outcomes_text(workload: Workload) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(workload.outcomes.items()))


def _checks(outcome: _Outcome, encoded: float) -> list[Check]:
    workload, growth, offered = outcome.workload, outcome.growth, outcome.offered
    more = outcome.idle_after.descriptors - outcome.idle_before.descriptors
    skipped = offered.skipped / max(1, offered.sent + offered.skipped)
    line = f"fitted line, {growth.first / MIB:.0f} MiB at a third, {growth.last / MIB:.0f} MiB at the end"
    descriptors = f"{outcome.idle_before.descriptors} before, {outcome.idle_after.descriptors} after"
    first = f"; the first: {workload.unexpected[0]}" if workload.unexpected else ""
    filled = encoded * _VECTOR_BYTES / _CACHE_BYTES
    cached = f"{encoded:.0f} texts of {_VECTOR_BYTES} bytes or more (glassbox_texts_total), {filled:.1f} times"
    rate = offered.sent / offered.seconds / (_SHARE * outcome.capacity)
    known = f"{workload.known_wrong} of {workload.n_known} wrong"
    known_met = workload.n_known > 0 and workload.known_wrong == 0
    growth_met = growth.share < _MAX_GROWTH
    return [
        Check("the texts fill the vector cache, so that growth is valid", cached, filled >= _MIN_FILLED),
        Check(f"≥ {_MIN_RATE:.0%} of the intended rate", f"{rate:.0%}", rate >= _MIN_RATE),
        Check("some clients disconnect before their response", f"{workload.n_aborted}", workload.n_aborted > 0),
        Check(
            f"resident memory grows < {_MAX_GROWTH:.0%} after the first third",
            f"{growth.share:+.1%} ({line})",
            growth_met,
        ),
        Check(f"idle again, at most {_MAX_DESCRIPTORS} descriptors more", descriptors, more <= _MAX_DESCRIPTORS),
        Check(
            "no unexpected status, error or reply",
            f"{workload.n_unexpected}{first}",
            workload.n_unexpected == 0,
        ),
        Check(f"known items keep their rewards (± {TOLERANCE:g})", known, known_met),
        Check(
            f"≤ {_MAX_SKIPPED:.0%} of arrivals skipped because {_MAX_OUTSTANDING} requests were outstanding",
            f"{skipped:.1%}",
            skipped <= _MAX_SKIPPED,
        ),
    ]


def _figures(outcome: _Outcome) -> list[Figure]:
    offered = outcome.offered.sent / outcome.offered.seconds
    idle = f"{outcome.idle_before.rss_mib:.0f} MiB, {outcome.idle_after.rss_mib:.0f} MiB"
    return [
        Figure("actions/s: closed loop, offered", f"{outcome.capacity:.1f}, {offered:.1f}"),
        Figure("outcomes", _outcomes_text(outcome.workload)),
        Figure("duration of an action: p50, p99, maximum", percentiles(outcome.workload.seconds)),
        Figure("resident memory: before the load, peak", outcome.usage.memory),
        Figure("resident memory, idle: before, after", idle),
        Figure("open descriptors, peak", f"{outcome.usage.max_descriptors}"),
    ]
