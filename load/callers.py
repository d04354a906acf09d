"""Two callers, one with far more than the service can do: the other is served at once, and no speed is lost.

    the encoder alone, in this process ─────────────▶ texts per second
    greedy alone: 8 connections, 4,096 new items a request, asking again after Retry-After ──▶ texts per second
    greedy and small: one item a second ──▶ times of the small one, texts per second
    greedy alone again, the encoder alone again ────▶ drift of the machine
    with --baseline: greedy alone at the service of another checkout

The speed is that of the encoder's metrics, because a request of 4,096 items takes longer than a phase may last.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

from load.exchanges import generate, score_body
from load.honest_clients import Record
from load.http_client import HttpClient
from load.plan import Plan
from load.report import Check, Figure, Findings
from load.schedule import percentiles, quantile
from load.service import MIB, ScenarioError, Service
from reward_service.models.encoder import load_encoder
from reward_service.settings import EMBEDDED_ENCODER
from tools.console import log

__all__ = ["run"]

_KEYS = "greedy-client-key-0123456789", "small-client-key-0123456789"
_CONNECTIONS = 8
_ITEMS = 4096
_MAX_SMALL_S = 3.0
_MIN_SHARE = 0.95
_SMALL_PER_S = 1.0
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class _Outcome:
    model_per_s: tuple[float, float]
    """Texts per second of the encoder without a service: before and after."""
    alone_per_s: float
    beside_per_s: float
    again_per_s: float
    baseline_per_s: float | None
    small: Record
    greedy: Counter[str]
    """Outcomes of the greedy caller's requests, by status."""

    @property
    def mean_alone_per_s(self) -> float:
        """The mean of before and after, which cancels the machine's own drift."""
        return (self.alone_per_s + self.again_per_s) / 2

    @property
    def mean_model_per_s(self) -> float:
        return sum(self.model_per_s) / 2


def run(plan: Plan) -> list[Findings]:
    """Measure the phases one after the other."""
    model_before = _model_alone(plan.callers_s / 2)
    with _service(plan, "callers") as service:
        greedy = _Greedy(service)
        alone_per_s = asyncio.run(greedy.speed(plan.callers_s))
        log(f"callers: {alone_per_s:.0f} texts/s of the greedy caller, {model_before:.0f} of the model alone")
        beside_per_s, small = asyncio.run(_both(greedy, service, plan.callers_s))
        again_per_s = asyncio.run(greedy.speed(plan.callers_s))
    model_per_s = model_before, _model_alone(plan.callers_s / 2)
    baseline_per_s = _baseline(plan)
    speeds = model_per_s, alone_per_s, beside_per_s, again_per_s, baseline_per_s
    outcome = _Outcome(*speeds, small, greedy.statuses)
    done = (
        f"One caller sends {_ITEMS} new items a request over {_CONNECTIONS} connections for {plan.callers_s:.0f} "
        "s, alone and beside another that sends one item a second; each has an API key."
    )
    return [Findings("callers", done, _checks(outcome), _figures(outcome))]


def _service(plan: Plan, name: str, **options: object) -> Service:
    keys = plan.folder / "callers-keys"
    keys.write_text("\n".join(_KEYS), encoding="utf-8")
    arguments = ["--gold", "none", "--api-keys-file", str(keys), "--cache-bytes", str(16 * MIB)]
    return Service(plan.folder / f"{name}.log", *arguments, key=_KEYS[0], **options)  # type: ignore[arg-type]


def _baseline(plan: Plan) -> float | None:
    if plan.baseline is None:
        return None
    with _service(plan, "callers-baseline", sources=plan.baseline) as service:
        return asyncio.run(_Greedy(service).speed(plan.callers_s))


class _Greedy:
    """A caller that always has requests of 4,096 items waiting."""

    def __init__(self, service: Service) -> None:
        self.statuses: Counter[str] = Counter()
        self._service = service
        self._exchanges = generate("greedy")

    async def speed(self, seconds: float) -> float:
        """Texts per second of the encoder, from the time that its queue is full."""
        async with self.sending():
            return await self.measured(seconds)

    async def measured(self, seconds: float) -> float:
        before, began = await self._texts(), time.monotonic()
        await asyncio.sleep(seconds)
        after = await self._texts()
        return (after - before) / (time.monotonic() - began)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Its connections send while the block runs; what is unfinished then is cancelled."""
        async with HttpClient("127.0.0.1", self._service.port, "/score", _KEYS[0]) as client:
            generating = asyncio.Lock()
            tasks = [asyncio.create_task(self._send(client, generating)) for _ in range(_CONNECTIONS)]
            try:
                await self._until_busy(tasks)
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await self._until_idle()

    async def _send(self, client: HttpClient, generating: asyncio.Lock) -> None:
        while True:
            async with generating:
                body = await asyncio.to_thread(lambda: score_body(list(islice(self._exchanges, _ITEMS))))
            response = await client.post(body, timeout_s=_TIMEOUT_S)
            while response.status in {429, 503}:
                self.statuses[str(response.status)] += 1
                await asyncio.sleep(float(response.header("retry-after") or 1))
                response = await client.post(body, timeout_s=_TIMEOUT_S)
            self.statuses[str(response.status)] += 1

    async def _until_busy(self, tasks: list[asyncio.Task[None]]) -> None:
        before = await self._texts()
        while await self._texts() < before + 1000:
            if any(task.done() for task in tasks):
                raise ScenarioError(f"the greedy caller failed: {next(t.exception() for t in tasks if t.done())}")
            await asyncio.sleep(0.1)

    async def _until_idle(self) -> None:
        while await self._waiting():  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(0.1)

    async def _waiting(self) -> float:
        return await asyncio.to_thread(self._service.metric, 'glassbox_waiting_items{model="encoder"}')

    async def _texts(self) -> float:
        return await asyncio.to_thread(self._service.metric, 'glassbox_batch_items_sum{model="encoder"}')


async def _both(greedy: _Greedy, service: Service, seconds: float) -> tuple[float, Record]:
    """Texts per second of both together, and the small caller's requests."""
    record = Record()
    async with greedy.sending():
        measured = asyncio.create_task(greedy.measured(seconds))
        async with asyncio.TaskGroup() as group:
            for exchange in islice(generate("small"), int(seconds * _SMALL_PER_S)):
                group.create_task(_small(record, service, score_body([exchange])))
                await asyncio.sleep(1 / _SMALL_PER_S)
        return await measured, record


async def _small(record: Record, service: Service, body: bytes) -> None:
    began = time.monotonic()
    try:
        async with HttpClient("127.0.0.1", service.port, "/score", _KEYS[1]) as client:
            response = await client.post(body, timeout_s=_TIMEOUT_S)
        if response.status != 200:
            record.problems[f"{response.status} {response.body[:200].decode(errors='replace')}"] += 1
    except (OSError, TimeoutError) as exc:
        record.problems[f"{type(exc).__name__}: {exc}"] += 1
    record.seconds.append(time.monotonic() - began)


def _model_alone(seconds: float) -> float:
    """Texts per second of the encoder with texts like those of the greedy caller, in batches of similar length."""
    encoder = load_encoder(EMBEDDED_ENCODER, "cpu")
    texts = (text for exchange in generate("model") for text in (exchange.prompt, exchange.response))
    n, spent = 0, 0.0
    while spent < seconds:
        for batch in _batches(list(islice(texts, 1024)), encoder.limits.max_items):
            tokens = encoder.tokenize(batch)
            began = time.monotonic()
            encoder.embed(tokens)
            spent += time.monotonic() - began
            n += len(batch)
    return n / spent


def _batches(texts: list[str], size: int) -> Iterator[list[str]]:
    texts.sort(key=len)
    return (texts[start : start + size] for start in range(0, len(texts), size))


def _checks(outcome: _Outcome) -> list[Check]:
    small = outcome.small
    p99_s, alone = quantile(small.seconds, 0.99), outcome.mean_alone_per_s
    problems = f"{small.problems.total()} of {len(small.seconds)} {dict(small.problems.most_common(1)) or ''}"
    checks = [
        Check(f"the small caller's p99 ≤ {_MAX_SMALL_S:g} s", f"{p99_s:.2f} s", p99_s <= _MAX_SMALL_S),
        Check("the small caller is never refused", problems, not small.problems),
        _share("both together ÷ the greedy caller alone", outcome.beside_per_s, alone),
        _share("the greedy caller alone ÷ the model alone", alone, outcome.mean_model_per_s),
    ]
    if outcome.baseline_per_s is not None:
        checks.append(_share("the greedy caller alone ÷ at the other checkout", alone, outcome.baseline_per_s))
    return checks


def _share(name: str, per_s: float, of_per_s: float) -> Check:
    measured = f"{per_s:.0f} of {of_per_s:.0f} texts/s, {per_s / of_per_s:.2f}"
    return Check(f"{name} ≥ {_MIN_SHARE}", measured, per_s >= _MIN_SHARE * of_per_s)


def _figures(outcome: _Outcome) -> list[Figure]:
    return [
        Figure("the small caller: p50, p99, maximum", percentiles(outcome.small.seconds)),
        Figure(
            "texts/s of the greedy caller alone: before, after",
            f"{outcome.alone_per_s:.0f}, {outcome.again_per_s:.0f}",
        ),
        Figure("texts/s of the model alone: before, after", "{:.0f}, {:.0f}".format(*outcome.model_per_s)),
        Figure("the greedy caller's requests by status", f"{dict(outcome.greedy)}"),
    ]
