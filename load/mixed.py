"""Everything at once at 70 % of what the service can do, for a long time: does it grow, leak, or go wrong?

    posts of OpenRLHF's kind, batches, gold on some, bad requests, callers that hang up, repeated questions, known
    items (mixture.py) ── at the pace of an open loop; /metrics and /readyz beside them

Texts are always new, but for the known items, whose rewards must stay what they were. The vector cache is small
(`--cache-bytes`), so that it is full early and memory can be judged: a line is fitted to the resident memory (RSS
of all processes, as psutil adds them up) after the first third, and what it rises until the end is the growth.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from load.growth import Growth, fitted
from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import Paced, closed, paced, spread
from load.service import MIB, Service, Usage, Watch, raise_descriptor_limit
from load.workload import SHARES, Mixture
from tools.demo import say
from tools.held_load import TOLERANCE

__all__ = ["run"]

_CACHE_BYTES = 16 * 2**20
_SHARE = 0.7
_CALLERS = 8
"""In the closed loop that measures what the service can do of this mixture."""
_MEASURES = 3
"""Times as long as other scenarios measure the speed: acts differ more than requests of one kind."""
_MAX_OUTSTANDING = 512
_MAX_SKIPPED = 0.01
_MAX_GROWTH = 0.05
_MIN_PACE = 0.9
_MIN_FILLED = 1.0
"""Times the cache; what an entry costs besides its vector comes on top."""
_MAX_DESCRIPTORS = 5
_IDLE_S = 15.0
"""Within which connections are closed that their callers have left."""
_IDLE_SAMPLES = 5
_SAMPLE_S = 5.0
_POLL_S = 5.0
_MINUTE_S = 60.0
_VECTOR_BYTES = 384 * 4
"""Of one text, in the embedded encoder, without what the cache itself needs."""
_TIMEOUT = aiohttp.ClientTimeout(total=180)


def run(plan: Plan) -> list[Findings]:
    """Mix for as long as the plan says."""
    raise_descriptor_limit()
    with Service(plan.folder / "mixed.log", "--cache-bytes", str(_CACHE_BYTES)) as service:
        ran = asyncio.run(_mix(service, plan))
        encoded = service.metric('glassbox_texts_total{source="encoded"}')
    done = (
        f"{plan.mixed_s / 60:.0f} minutes at {_SHARE:.0%} of the speed that a closed loop of the same mixture "
        f"had just before: {', '.join(f'{share} % {kind}' for kind, share in SHARES.items())}; "
        f"--cache-bytes {_CACHE_BYTES}. /metrics and /readyz every {_POLL_S:.0f} s."
    )
    return [Findings("mixed", done, _checks(ran, encoded), _figures(ran))]


@dataclass(frozen=True)
class _Ran:
    """What came of it."""

    mixture: Mixture
    speed: float
    """Acts a second in the closed loop."""
    offered: Paced
    watch: Watch
    growth: Growth
    idle_before: Usage
    idle_after: Usage


async def _mix(service: Service, plan: Plan) -> _Ran:
    async with _session() as session:
        warm = Mixture(service.url, session, "warm")
        await warm.learn()
        speed = await closed(warm.act, _CALLERS, _MEASURES * plan.measure_s)
    idle_before = await _idle_usage(service)
    say(f"mixed: {speed:.1f} acts/s in a closed loop; {_SHARE * speed:.1f} offered; idle {_words(idle_before)}")
    async with _session() as session:
        mixture = Mixture(service.url, session, "mixed")
        await mixture.learn()
        with Watch(service, every_s=_SAMPLE_S) as watch:
            beside = [
                asyncio.create_task(_poll(mixture, service.url, session)),
                asyncio.create_task(_tell(mixture, watch)),
            ]
            offered = await paced(mixture.act, _SHARE * speed, plan.mixed_s, _MAX_OUTSTANDING)
            await _ended(beside)
    mixture.n_unexpected += warm.n_unexpected
    mixture.unexpected += warm.unexpected
    growth = fitted([(usage.at_s, float(usage.rss_bytes)) for usage in watch.samples])
    return _Ran(mixture, speed, offered, watch, growth, idle_before, await _idle_usage(service))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_TIMEOUT)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel what runs for ever; raise what ended one of them before."""
    for task in tasks:
        task.cancel()
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, Exception):
            raise end


async def _idle_usage(service: Service) -> Usage:
    """The fewest descriptors while nobody asks: idle connections are closed by and by."""
    seen = []
    for _ in range(_IDLE_SAMPLES):
        await asyncio.sleep(_IDLE_S / _IDLE_SAMPLES)
        seen.append(service.usage())
    return min(seen, key=lambda usage: usage.descriptors)


async def _poll(mixture: Mixture, url: str, session: aiohttp.ClientSession) -> None:
    while True:
        for path in ("/metrics", "/readyz"):
            try:
                async with session.get(f"{url}{path}") as reply:
                    await reply.read()
                    end = f"status {reply.status}"
            except (aiohttp.ClientError, TimeoutError) as exc:
                end = f"{type(exc).__name__}: {exc}"
            mixture.ends[f"{path}: {end}"] += 1
            if end != "status 200":
                mixture.note(f"{path}: {end}")
        await asyncio.sleep(_POLL_S)


async def _tell(mixture: Mixture, watch: Watch) -> None:
    """A line each minute."""
    minute = 0
    while True:
        await asyncio.sleep(_MINUTE_S)
        minute += 1
        say(f"mixed: minute {minute}: {_words(watch.samples[-1])}; {_ends(mixture)}")


def _words(usage: Usage) -> str:
    return f"{usage.rss_mib:.0f} MiB, {usage.descriptors} descriptors"


def _ends(mixture: Mixture) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(mixture.ends.items()))


def _checks(ran: _Ran, encoded: float) -> list[Check]:
    mixture, growth, offered = ran.mixture, ran.growth, ran.offered
    more = ran.idle_after.descriptors - ran.idle_before.descriptors
    skipped = offered.skipped / max(1, offered.sent + offered.skipped)
    fit = f"fitted, {growth.first / MIB:.0f} MiB at a third, {growth.last / MIB:.0f} MiB at the end"
    rise = f"{growth.share:+.1%} ({fit})"
    descriptors = f"{ran.idle_before.descriptors} before, {ran.idle_after.descriptors} after"
    wrong = f"{mixture.n_unexpected}" + (f"; the first: {mixture.unexpected[0]}" if mixture.unexpected else "")
    times = encoded * _VECTOR_BYTES / _CACHE_BYTES
    cached = f"{encoded:.0f} texts of {_VECTOR_BYTES} bytes and more (glassbox_texts_total), {times:.1f} times"
    pace = offered.sent / offered.seconds / (_SHARE * ran.speed)
    known = f"{mixture.known_wrong} of {mixture.n_known} wrong"
    return [
        Check("the texts fill the vector cache, so that memory can be judged", cached, times >= _MIN_FILLED),
        Check(f"≥ {_MIN_PACE:.0%} of the pace that was meant", f"{pace:.0%}", pace >= _MIN_PACE),
        Check("callers hang up before their answer", f"{mixture.n_hung_up} did", mixture.n_hung_up > 0),
        Check(
            f"resident memory grows < {_MAX_GROWTH:.0%} after the first third", rise, growth.share < _MAX_GROWTH
        ),
        Check(f"idle again, at most {_MAX_DESCRIPTORS} descriptors more", descriptors, more <= _MAX_DESCRIPTORS),
        Check("no unexpected status, error or reply", wrong, mixture.n_unexpected == 0),
        Check(
            f"known items keep their rewards (± {TOLERANCE:g})",
            known,
            mixture.n_known > 0 and mixture.known_wrong == 0,
        ),
        Check(
            f"≤ {_MAX_SKIPPED:.0%} of arrivals unsent for {_MAX_OUTSTANDING} waiting",
            f"{skipped:.1%}",
            skipped <= _MAX_SKIPPED,
        ),
    ]


def _figures(ran: _Ran) -> list[Figure]:
    return [
        Figure("acts/s: closed loop, offered", f"{ran.speed:.1f}, {ran.offered.sent / ran.offered.seconds:.1f}"),
        Figure("ends", _ends(ran.mixture)),
        Figure("time of an act: p50, p99, longest", spread(ran.mixture.seconds)),
        Figure("resident memory: before the load, at most", ran.watch.memory),
        Figure(
            "resident memory, idle: before, after",
            f"{ran.idle_before.rss_mib:.0f} MiB, {ran.idle_after.rss_mib:.0f} MiB",
        ),
        Figure("open descriptors, at most", f"{ran.watch.max_descriptors}"),
    ]
