"""Ten times what the service can do: it does as much as before, quickly, and refuses the rest politely.

    closed loop, unloaded ──▶ items a second
    the same, while the posts of the next step go to somebody who refuses for nothing ──▶ what the callers take
    open loop at 10 × that, of POST /score ──▶ admitted: answered within a bound; refused: 429 or 503, Retry-After
    then, idle: one item ──▶ at once
    closed loop again ──▶ as fast as before, or the machine was busy with something else and the ratios say nothing

Twice: with the service's defaults, and with a fifth of the work that may wait, for those who would rather be
refused than wait. The load lasts at least four times as long as what may wait, so that nobody's place in line is
spared the end of it.

The bound: requests take turns, so those under way progress in step, and half of their texts wait on average.
The texts that may wait then belong to twice as many requests as they would fill, and by Little's law each takes
2 × `--max-waiting-s`; the margin is what the slowest of a hundred took in the closed loop. The service measures
its speed in tokens, and its line is bounded by that; so the bound allows for a fifth more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import httpx
import uvloop

from load.http_client import Wire, refusing
from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import Paced, closed, paced, quantile, spread
from load.service import Service, SoakError, Watch, raise_descriptor_limit
from load.work import fresh, score_body
from reward_service.process.cpu_scheduling import set_batch, set_normal
from reward_service.settings import Settings
from tools.demo import say

__all__ = ["run"]

_SHIPPED_S = float(Settings.model_fields["max_waiting_s"].default)
_WAITING_S = (_SHIPPED_S, _SHIPPED_S / 5)
"""Seconds of work that may wait: as the service is shipped, and for those who would rather be refused."""
_MARGIN = 1.2
"""Of the bound, for the speed in tokens."""
_ITEMS = 8
"""Of one request; their prompts and responses are all new to the service."""
_CALLERS = 16
"""In the closed loop: enough for full batches."""
_FACTOR = 10
_LEAST_FACTOR = 9
_MAX_OUTSTANDING = 2000
_LEAST_SHARE = 0.9
_MAX_GROWTH = 1.25
_MAX_DRIFT = 0.2
"""Of the unloaded speed, between before and after."""
_IDLE_S = 2.0
_REFUSALS = (429, 503)


@dataclass
class _Tally:
    """How requests ended."""

    admitted_s: list[float] = field(default_factory=list)
    """Seconds that each admitted request took."""
    n_refused: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    """What should not have happened, and how often."""

    async def ask(self, wire: Wire, body: bytes) -> None:
        """Ask once, without asking again, so that refusals are seen."""
        started = time.monotonic()
        try:
            reply = await wire.post(body)
        except (OSError, TimeoutError) as exc:
            self.wrong[f"{type(exc).__name__}: {exc}"] += 1
            return
        retry_after = reply.header("retry-after")
        if reply.status == 200 and len(json.loads(reply.body)["rewards"]) == _ITEMS:
            self.admitted_s.append(time.monotonic() - started)
        elif reply.status in _REFUSALS and _at_least_1(retry_after):
            self.n_refused += 1
        else:
            self.wrong[f"status {reply.status}, Retry-After {retry_after!r}"] += 1


@dataclass(frozen=True)
class _Outcome:
    """What the closed and the open loop were like."""

    unloaded: _Tally
    items_per_s: float
    """Unloaded, before."""
    items_per_s_after: float
    items_per_s_beside: float
    """Unloaded, while as many posts as overload it later went to somebody who refuses for nothing."""
    beside_cpu: float
    """Share of one core that the callers, and that somebody, took then."""
    loaded: _Tally
    offered: Paced
    took_s: float
    """From the first arrival to the last answer."""
    own_cpu: float
    """Share of one core that the callers themselves took."""
    idle_s: float
    """For one item, when nobody else asks any more."""
    wrong: Counter[str]
    """What should not have happened, in any of the loops."""
    max_waiting_s: float
    """Seconds of work that might wait."""

    @property
    def bound_s(self) -> float:
        return 2 * _MARGIN * self.max_waiting_s + quantile(self.unloaded.admitted_s, 0.99)

    @property
    def drift(self) -> float:
        return abs(self.items_per_s_after / self.items_per_s - 1)

    @property
    def unloaded_per_s(self) -> float:
        """Items a second, the mean of before and after: the machine's own drift tells nothing of the load."""
        return (self.items_per_s + self.items_per_s_after) / 2

    @property
    def admitted_per_s(self) -> float:
        return len(self.loaded.admitted_s) * _ITEMS / self.took_s

    @property
    def factor(self) -> float:
        return self.offered.sent * _ITEMS / self.offered.seconds / self.items_per_s


def run(plan: Plan) -> list[Findings]:
    """Measure, overload, and ask once more."""
    raise_descriptor_limit()
    waits = _WAITING_S[-1:] if plan.short else _WAITING_S  # a short load does not fill the default
    return [_one(plan, waiting_s) for waiting_s in waits]


def _one(plan: Plan, waiting_s: float) -> Findings:
    options = ("--gold", "none", "--max-waiting-s", str(waiting_s))
    with Service(plan.folder / f"overload-{waiting_s:g}.log", *options) as service:
        set_batch()  # callers of a real service have cores of their own
        try:
            outcome, watch = uvloop.run(_overload(service, plan, waiting_s))
        finally:
            set_normal()
    done = (
        f"For {_load_s(plan, waiting_s):.0f} s, POST /score with {_ITEMS} new items each, arriving at {_FACTOR} "
        f"times the speed measured just before; --max-waiting-s is {waiting_s:g}."
    )
    title = f"overload: {waiting_s:g} s of work may wait"
    return Findings(title, done, _checks(outcome, watch), _figures(outcome, watch))


async def _overload(service: Service, plan: Plan, waiting_s: float) -> tuple[_Outcome, Watch]:
    bodies = _bodies(f"overload-{waiting_s:g}")
    async with Wire("127.0.0.1", service.port, "/score") as wire:
        warm, unloaded, loaded, after = (_Tally() for _ in range(4))
        await closed(lambda: warm.ask(wire, next(bodies)), _CALLERS, plan.measure_s / 4)
        per_s = await closed(lambda: unloaded.ask(wire, next(bodies)), _CALLERS, plan.measure_s)
        rate = _FACTOR * per_s
        per_s_beside, beside_cpu = await _beside_callers(wire, bodies, rate, plan.measure_s)
        load_s = _load_s(plan, waiting_s)
        n_arrivals = int(rate * load_s)
        prepared = iter(list(islice(bodies, n_arrivals)))  # made now, not while it is overloaded
        say(f"overload: {per_s * _ITEMS:.0f} items/s unloaded; {rate:.0f} requests/s offered")
        with Watch(service) as watch:
            started, cpu = time.monotonic(), time.process_time()
            offered = await paced(lambda: loaded.ask(wire, next(prepared)), rate, load_s, _MAX_OUTSTANDING)
            took_s = time.monotonic() - started
            own_cpu = (time.process_time() - cpu) / took_s
        idle_s = await asyncio.to_thread(_idle, service.url)
        per_s_after = await closed(lambda: after.ask(wire, next(bodies)), _CALLERS, plan.measure_s)
    speeds = per_s * _ITEMS, per_s_after * _ITEMS, per_s_beside * _ITEMS, beside_cpu
    unasked = Counter({"refused in a closed loop": warm.n_refused + unloaded.n_refused + after.n_refused})
    wrong = warm.wrong + unloaded.wrong + loaded.wrong + after.wrong + unasked
    return _Outcome(unloaded, *speeds, loaded, offered, took_s, own_cpu, idle_s, wrong, waiting_s), watch


async def _beside_callers(wire: Wire, bodies: Iterator[bytes], rate: float, seconds: float) -> tuple[float, float]:
    """Requests a second in a closed loop, beside callers whom the service never sees; our share of a core.

    They share the service's cores, here, and take from it whatever it answers.
    """
    prepared = iter(list(islice(bodies, int(rate * seconds))))
    scored, elsewhere = _Tally(), _Tally()
    async with refusing() as port, Wire("127.0.0.1", port, "/score") as other:
        started, cpu = time.monotonic(), time.process_time()
        per_s, _ = await asyncio.gather(
            closed(lambda: scored.ask(wire, next(bodies)), _CALLERS, seconds),
            paced(lambda: elsewhere.ask(other, next(prepared)), rate, seconds, _MAX_OUTSTANDING),
        )
        own_cpu = (time.process_time() - cpu) / (time.monotonic() - started)
    if scored.wrong or elsewhere.wrong:
        raise SoakError(f"the control went wrong: {scored.wrong + elsewhere.wrong}")
    return per_s, own_cpu


def _load_s(plan: Plan, waiting_s: float) -> float:
    return max(plan.overload_s, 4 * waiting_s)


def _bodies(kind: str) -> Iterator[bytes]:
    exchanges = fresh(kind)
    while True:
        yield score_body(list(islice(exchanges, _ITEMS)))


def _idle(url: str) -> float:
    """Seconds until one item is scored, once nobody else asks."""
    body = score_body(list(islice(fresh("idle"), 1)))
    started = time.monotonic()
    httpx.post(f"{url}/score", content=body, timeout=60).raise_for_status()
    return time.monotonic() - started


def _at_least_1(retry_after: str) -> bool:
    return retry_after.isascii() and retry_after.isdigit() and int(retry_after) >= 1


def _checks(outcome: _Outcome, watch: Watch) -> list[Check]:
    factor, growth = outcome.factor, watch.growth
    p99_s, share = quantile(outcome.loaded.admitted_s, 0.99), outcome.admitted_per_s / outcome.unloaded_per_s
    wrong, n_refused, idle_s = outcome.wrong, outcome.loaded.n_refused, outcome.idle_s
    offered = f"{factor:.1f} times, {outcome.offered.skipped} arrivals not sent"
    refused = f"{n_refused} such refusals; {wrong.total()} other ends {dict(wrong.most_common(2)) or ''}"
    admitted = f"{outcome.admitted_per_s:.1f} of {outcome.unloaded_per_s:.1f}, {share:.2f}"
    bound = f"p99 of admitted requests ≤ {2 * _MARGIN:g} × {outcome.max_waiting_s:g} s + unloaded p99"
    drifted = f"{outcome.items_per_s:.1f} before, {outcome.items_per_s_after:.1f} after"
    return [
        Check(f"the machine is quiet: unloaded items/s ± {_MAX_DRIFT:.0%}", drifted, outcome.drift <= _MAX_DRIFT),
        Check(f"≥ {_LEAST_FACTOR} times the unloaded speed is offered", offered, factor >= _LEAST_FACTOR),
        Check(bound, f"{p99_s:.2f} s; the bound is {outcome.bound_s:.2f} s", p99_s <= outcome.bound_s),
        Check(
            "refusals are 429 or 503 with Retry-After ≥ 1; no other errors", refused, not wrong and n_refused > 0
        ),
        Check(
            f"admitted items/s ≥ {_LEAST_SHARE} of the unloaded speed, mean of before and after",
            admitted,
            share >= _LEAST_SHARE,
        ),
        Check(
            f"resident memory ÷ before ≤ {_MAX_GROWTH}", f"{growth:.2f} ({watch.memory})", growth <= _MAX_GROWTH
        ),
        Check(f"afterwards one item is scored within {_IDLE_S:g} s", f"{idle_s:.2f} s", idle_s <= _IDLE_S),
    ]


def _figures(outcome: _Outcome, watch: Watch) -> list[Figure]:
    lateness = f"{outcome.offered.max_lag_s:.2f} s late, {outcome.own_cpu:.2f}"
    per_s = outcome.admitted_per_s
    shares = f"{per_s / outcome.items_per_s:.2f}, {per_s / outcome.items_per_s_after:.2f}"
    beside = f"{outcome.items_per_s_beside:.1f}; {per_s / outcome.items_per_s_beside:.2f}"
    return [
        Figure("admitted items/s ÷ unloaded before, ÷ after", shares),
        Figure("unloaded items/s while the same posts go elsewhere; admitted ÷ that", beside),
        Figure("the callers' share of a core then", f"{outcome.beside_cpu:.2f}"),
        Figure("admitted requests: p50, p99, longest", spread(outcome.loaded.admitted_s)),
        Figure("unloaded requests: p50, p99, longest", spread(outcome.unloaded.admitted_s)),
        Figure("from the last arrival to the last answer", f"{outcome.took_s - outcome.offered.seconds:.2f} s"),
        Figure("requests sent, admitted", f"{outcome.offered.sent}, {len(outcome.loaded.admitted_s)}"),
        Figure("the callers themselves: latest arrival, share of a core", lateness),
        Figure("open descriptors: before, at most", f"{watch.samples[0].descriptors}, {watch.max_descriptors}"),
    ]
