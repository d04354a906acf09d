"""Ten times the service's capacity: its throughput must not fall, and the rest must be refused with Retry-After.

    closed loop, unloaded ──▶ items per second
    the same, while the requests of the next step go to a server that refuses all ──▶ the cost of the clients
    open loop at 10 × that, POST /score ──▶ admitted: within a latency bound; refused: 429 or 503, Retry-After
    then, idle: one item ──▶ at once
    closed loop again ──▶ as fast as before; otherwise the machine was busy, and the ratios are not valid

Twice: with the service's default `--max-waiting-s`, and with a fifth of it. The load lasts at least four times
`--max-waiting-s`, so that the queue is full for most of it.

The latency bound: requests progress in turns, so on average half of the texts of an admitted request wait. The
texts that may wait then belong to twice as many requests as they would fill, and by Little's law each takes
2 × `--max-waiting-s`, plus the p99 of the closed loop. The service measures its speed in tokens and bounds its
queue with it; the bound allows a fifth more for that.
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

from load.exchanges import generate, score_body
from load.http_client import HttpClient, refusing_server
from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import OpenLoop, closed_loop, open_loop, percentiles, quantile
from load.service import ScenarioError, Service, UsageSampler, raise_descriptor_limit
from reward_service.process.cpu_scheduling import set_batch, set_normal
from reward_service.settings import Settings
from tools.console import log

__all__ = ["run"]

_DEFAULT_S = float(Settings.model_fields["max_waiting_s"].default)
_WAITING_S = (_DEFAULT_S, _DEFAULT_S / 5)
"""Values of `--max-waiting-s`."""
_MARGIN = 1.2
"""Factor of the latency bound, for the speed in tokens."""
_ITEMS = 8
"""Items of one request; all prompts and responses are new to the service."""
_CLIENTS = 16
"""Clients of the closed loop: enough for full batches."""
_FACTOR = 10
_MIN_FACTOR = 9
_MAX_OUTSTANDING = 2000
_MIN_SHARE = 0.9
_MAX_GROWTH_MIB = 228
"""A quarter of the memory of the idle service when this was required. It has less than half of that since
2026-11-27, because it imports torch only for models that need it, so a share would be another requirement."""
_MAX_DRIFT = 0.2
"""Largest relative difference of the unloaded throughput before and after."""
_IDLE_S = 2.0
_REFUSALS = (429, 503)


@dataclass
class _Tally:
    """Outcomes of requests."""

    admitted_s: list[float] = field(default_factory=list)
    """Seconds of each admitted request."""
    n_refused: int = 0
    unexpected: Counter[str] = field(default_factory=Counter)
    """Errors and responses that must not occur, with their number."""

    async def send(self, client: HttpClient, body: bytes) -> None:
        """Send one request without retries, so that refusals are counted."""
        started = time.monotonic()
        try:
            response = await client.post(body)
        except (OSError, TimeoutError) as exc:
            self.unexpected[f"{type(exc).__name__}: {exc}"] += 1
            return
        retry_after = response.header("retry-after")
        if response.status == 200 and len(json.loads(response.body)["rewards"]) == _ITEMS:
            self.admitted_s.append(time.monotonic() - started)
        elif response.status in _REFUSALS and _at_least_1(retry_after):
            self.n_refused += 1
        else:
            self.unexpected[f"status {response.status}, Retry-After {retry_after!r}"] += 1


@dataclass(frozen=True)
class _Outcome:
    """Measurements of the closed loops and of the open loop."""

    unloaded: _Tally
    items_per_s: float
    """Unloaded, before."""
    items_per_s_after: float
    items_per_s_control: float
    """Unloaded, while the requests of the overload went to a server that refuses all."""
    control_cpu: float
    """Cores used by the clients and that server."""
    loaded: _Tally
    offered: OpenLoop
    took_s: float
    """From the first arrival to the last response."""
    client_cpu: float
    """Cores used by the clients during the overload."""
    idle_s: float
    """Duration of a one-item request after the overload."""
    unexpected: Counter[str]
    """Unexpected outcomes of all loops."""
    max_waiting_s: float

    @property
    def bound_s(self) -> float:
        return 2 * _MARGIN * self.max_waiting_s + quantile(self.unloaded.admitted_s, 0.99)

    @property
    def drift(self) -> float:
        return abs(self.items_per_s_after / self.items_per_s - 1)

    @property
    def unloaded_per_s(self) -> float:
        """Items per second, the mean of before and after, which cancels the machine's own drift."""
        return (self.items_per_s + self.items_per_s_after) / 2

    @property
    def admitted_per_s(self) -> float:
        return len(self.loaded.admitted_s) * _ITEMS / self.took_s

    @property
    def factor(self) -> float:
        return self.offered.sent * _ITEMS / self.offered.seconds / self.items_per_s


def run(plan: Plan) -> list[Findings]:
    """Overload the service with each value of `--max-waiting-s`."""
    raise_descriptor_limit()
    waits = _WAITING_S[-1:] if plan.short else _WAITING_S  # a short load does not fill the default queue
    return [_run_once(plan, waiting_s) for waiting_s in waits]


def _run_once(plan: Plan, waiting_s: float) -> Findings:
    options = ("--gold", "none", "--max-waiting-s", str(waiting_s))
    with Service(plan.folder / f"overload-{waiting_s:g}.log", *options) as service:
        set_batch()  # the clients of a real service run on other cores
        try:
            outcome, usage = uvloop.run(_overload(service, plan, waiting_s))
        finally:
            set_normal()
    done = (
        f"For {_load_s(plan, waiting_s):.0f} s, POST /score with {_ITEMS} new items each, arriving at {_FACTOR} "
        f"times the throughput measured just before; --max-waiting-s is {waiting_s:g}."
    )
    title = f"overload: max_waiting_s {waiting_s:g}"
    return Findings(title, done, _checks(outcome, usage), _figures(outcome, usage))


async def _overload(service: Service, plan: Plan, waiting_s: float) -> tuple[_Outcome, UsageSampler]:
    bodies = _bodies(f"overload-{waiting_s:g}")
    async with HttpClient("127.0.0.1", service.port, "/score") as client:
        warm, unloaded, loaded, after = (_Tally() for _ in range(4))
        await closed_loop(lambda: warm.send(client, next(bodies)), _CLIENTS, plan.measure_s / 4)
        per_s = await closed_loop(lambda: unloaded.send(client, next(bodies)), _CLIENTS, plan.measure_s)
        rate = _FACTOR * per_s
        per_s_control, control_cpu = await _control(client, bodies, rate, plan.measure_s)
        load_s = _load_s(plan, waiting_s)
        prepared = iter(list(islice(bodies, int(rate * load_s))))  # built before the overload, not during it
        log(f"overload: {per_s * _ITEMS:.0f} items/s unloaded; {rate:.0f} requests/s offered")
        with UsageSampler(service) as usage:
            started, cpu = time.monotonic(), time.process_time()
            offered = await open_loop(lambda: loaded.send(client, next(prepared)), rate, load_s, _MAX_OUTSTANDING)
            took_s = time.monotonic() - started
            client_cpu = (time.process_time() - cpu) / took_s
        idle_s = await asyncio.to_thread(_time_one_item, service.url)
        per_s_after = await closed_loop(lambda: after.send(client, next(bodies)), _CLIENTS, plan.measure_s)
    speeds = per_s * _ITEMS, per_s_after * _ITEMS, per_s_control * _ITEMS, control_cpu
    refused = Counter({"refused in a closed loop": warm.n_refused + unloaded.n_refused + after.n_refused})
    unexpected = warm.unexpected + unloaded.unexpected + loaded.unexpected + after.unexpected + refused
    return _Outcome(unloaded, *speeds, loaded, offered, took_s, client_cpu, idle_s, unexpected, waiting_s), usage


async def _control(
    client: HttpClient, bodies: Iterator[bytes], rate: float, seconds: float
) -> tuple[float, float]:
    """Requests per second in a closed loop while the overload goes to another server; cores that its clients use.

    Clients and service share the cores of one machine, so this is what the clients alone take from the service.
    """
    prepared = iter(list(islice(bodies, int(rate * seconds))))
    scored, elsewhere = _Tally(), _Tally()
    async with refusing_server() as port, HttpClient("127.0.0.1", port, "/score") as other:
        started, cpu = time.monotonic(), time.process_time()
        per_s, _ = await asyncio.gather(
            closed_loop(lambda: scored.send(client, next(bodies)), _CLIENTS, seconds),
            open_loop(lambda: elsewhere.send(other, next(prepared)), rate, seconds, _MAX_OUTSTANDING),
        )
        control_cpu = (time.process_time() - cpu) / (time.monotonic() - started)
    if scored.unexpected or elsewhere.unexpected:
        raise ScenarioError(f"the control measurement failed: {scored.unexpected + elsewhere.unexpected}")
    return per_s, control_cpu


def _load_s(plan: Plan, waiting_s: float) -> float:
    return max(plan.overload_s, 4 * waiting_s)


def _bodies(kind: str) -> Iterator[bytes]:
    exchanges = generate(kind)
    while True:
        yield score_body(list(islice(exchanges, _ITEMS)))


def _time_one_item(url: str) -> float:
    """Seconds of a one-item request without other load."""
    body = score_body(list(islice(generate("idle"), 1)))
    started = time.monotonic()
    httpx.post(f"{url}/score", content=body, timeout=60).raise_for_status()
    return time.monotonic() - started


def _at_least_1(retry_after: str) -> bool:
    return retry_after.isascii() and retry_after.isdigit() and int(retry_after) >= 1


def _checks(outcome: _Outcome, usage: UsageSampler) -> list[Check]:
    factor, growth_mib = outcome.factor, usage.growth_mib
    p99_s, share = quantile(outcome.loaded.admitted_s, 0.99), outcome.admitted_per_s / outcome.unloaded_per_s
    unexpected, n_refused, idle_s = outcome.unexpected, outcome.loaded.n_refused, outcome.idle_s
    offered = f"{factor:.1f} times, {outcome.offered.skipped} arrivals not sent"
    refused = f"{n_refused} refusals; {unexpected.total()} other outcomes {dict(unexpected.most_common(2)) or ''}"
    admitted = f"{outcome.admitted_per_s:.1f} of {outcome.unloaded_per_s:.1f}, {share:.2f}"
    bound = f"p99 of admitted requests ≤ {2 * _MARGIN:g} × {outcome.max_waiting_s:g} s + unloaded p99"
    drifted = f"{outcome.items_per_s:.1f} before, {outcome.items_per_s_after:.1f} after"
    return [
        Check(
            f"unloaded items/s before and after differ by ≤ {_MAX_DRIFT:.0%}", drifted, outcome.drift <= _MAX_DRIFT
        ),
        Check(f"≥ {_MIN_FACTOR} times the unloaded throughput is offered", offered, factor >= _MIN_FACTOR),
        Check(bound, f"{p99_s:.2f} s; the bound is {outcome.bound_s:.2f} s", p99_s <= outcome.bound_s),
        Check(
            "refusals are 429 or 503 with Retry-After ≥ 1; no other errors",
            refused,
            not unexpected and n_refused > 0,
        ),
        Check(
            f"admitted items/s ≥ {_MIN_SHARE} of the unloaded throughput, mean of before and after",
            admitted,
            share >= _MIN_SHARE,
        ),
        Check(
            f"resident memory − before ≤ {_MAX_GROWTH_MIB} MiB",
            f"{growth_mib:.0f} MiB ({usage.memory})",
            growth_mib <= _MAX_GROWTH_MIB,
        ),
        Check(f"afterwards one item is scored within {_IDLE_S:g} s", f"{idle_s:.2f} s", idle_s <= _IDLE_S),
    ]


def _figures(outcome: _Outcome, usage: UsageSampler) -> list[Figure]:
    lateness = f"{outcome.offered.max_lag_s:.2f} s late, {outcome.client_cpu:.2f}"
    per_s = outcome.admitted_per_s
    shares = f"{per_s / outcome.items_per_s:.2f}, {per_s / outcome.items_per_s_after:.2f}"
    control = f"{outcome.items_per_s_control:.1f}; {per_s / outcome.items_per_s_control:.2f}"
    return [
        Figure("admitted items/s ÷ unloaded before, ÷ after", shares),
        Figure("unloaded items/s while the same requests go to another server; admitted ÷ that", control),
        Figure("cores used by the clients then", f"{outcome.control_cpu:.2f}"),
        Figure("admitted requests: p50, p99, maximum", percentiles(outcome.loaded.admitted_s)),
        Figure("unloaded requests: p50, p99, maximum", percentiles(outcome.unloaded.admitted_s)),
        Figure("from the last arrival to the last response", f"{outcome.took_s - outcome.offered.seconds:.2f} s"),
        Figure("requests sent, admitted", f"{outcome.offered.sent}, {len(outcome.loaded.admitted_s)}"),
        Figure("the clients: latest arrival, cores used", lateness),
        Figure("open descriptors: before, peak", f"{usage.samples[0].descriptors}, {usage.max_descriptors}"),
    ]
