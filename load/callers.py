"""Two callers, one with far more than the service can do: the other is served at once, and no speed is lost.

    each round: the encoder alone, in this process ──▶ texts/s
                ordinary requests of one caller: 16 connections, 64 new items a request ──▶ texts/s
                greedy alone: 8 connections, 4,096 new items a request, again after Retry-After ──▶ texts/s
                greedy and small: one item a second ──▶ times of the small one, texts/s
                with --baseline: greedy alone at the service of another checkout ──▶ texts/s
    ratios within each round, because the speed of the machine changes ──▶ their medians

The speed is that of the encoder's metrics, because a request of 4,096 items takes longer than a phase lasts. All
texts have the same length, because a phase may get more prompts or more responses than another.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from statistics import median

from load.exchanges import generate_equal, score_body
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
_CONNECTIONS, _ITEMS = 8, 4096
_ORDINARY_CONNECTIONS, _ORDINARY_ITEMS = 16, 64
_MAX_SMALL_S = 3.0
_MIN_SHARE = 0.95
_SMALL_PER_S = 1.0
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class _Round:
    """Texts per second of the encoder, in phases that follow each other."""

    model_alone: float
    """Without a service."""
    ordinary: float
    greedy_alone: float
    both: float
    baseline: float | None


@dataclass(frozen=True)
class _Outcome:
    rounds: list[_Round]
    small: Record
    greedy: Counter[str]
    """Outcomes of the greedy caller's requests, by status."""


def run(plan: Plan) -> list[Findings]:
    """Measure the rounds one after the other."""
    rounds = []
    with _service(plan, "callers") as service, _baseline(plan) as baseline:
        model, greedy, small = _Model(), _Busy(service), _Small(service)
        ordinary = _Busy(service, "ordinary", _ORDINARY_CONNECTIONS, _ORDINARY_ITEMS)
        for n in range(1, plan.callers_rounds + 1):
            seconds = plan.callers_s
            measured = _Round(
                model.speed(seconds / 2),
                asyncio.run(ordinary.speed(seconds)),
                asyncio.run(greedy.speed(seconds)),
                asyncio.run(_both(greedy, small, seconds)),
                asyncio.run(baseline.speed(seconds)) if baseline else None,
            )
            log(f"callers: round {n} of {plan.callers_rounds}, in texts/s: {_words(measured)}")
            rounds.append(measured)
    done = (
        f"One caller sends {_ITEMS} new items a request over {_CONNECTIONS} connections, alone and beside another "
        f"that sends one item a second; each has an API key. {plan.callers_rounds} rounds, {plan.callers_s:.0f} s "
        "a phase."
    )
    outcome = _Outcome(rounds, small.record, greedy.statuses)
    return [Findings("callers", done, _checks(outcome), _figures(outcome))]


def _words(measured: _Round) -> str:
    speeds = asdict(measured).items()
    return ", ".join(f"{name.replace('_', ' ')} {speed:.0f}" for name, speed in speeds if speed is not None)


def _service(plan: Plan, name: str, **options: object) -> Service:
    keys = plan.folder / "callers-keys"
    keys.write_text("\n".join(_KEYS), encoding="utf-8")
    arguments = ["--gold", "none", "--api-keys-file", str(keys), "--cache-bytes", str(16 * MIB)]
    return Service(plan.folder / f"{name}.log", *arguments, key=_KEYS[0], **options)  # type: ignore[arg-type]


@contextmanager
def _baseline(plan: Plan) -> Iterator[_Busy | None]:
    """The greedy caller of the service of another checkout."""
    if plan.baseline is None:
        yield None
        return
    with _service(plan, "callers-baseline", sources=plan.baseline) as service:
        yield _Busy(service)


class _Busy:
    """A caller that always has requests waiting: by default, the greedy one."""

    def __init__(
        self, service: Service, kind: str = "greedy", connections: int = _CONNECTIONS, items: int = _ITEMS
    ) -> None:
        self.statuses: Counter[str] = Counter()
        self._service = service
        self._exchanges = generate_equal(kind)
        self._connections, self._items = connections, items

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
            tasks = [asyncio.create_task(self._send(client, generating)) for _ in range(self._connections)]
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
                body = await asyncio.to_thread(lambda: score_body(list(islice(self._exchanges, self._items))))
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


class _Small:
    """A caller that sends one item a second."""

    def __init__(self, service: Service) -> None:
        self.record = Record()
        self._service = service
        self._exchanges = generate_equal("small")

    async def send(self, seconds: float) -> None:
        """Send for `seconds`, and wait for the replies."""
        async with asyncio.TaskGroup() as group:
            for exchange in islice(self._exchanges, int(seconds * _SMALL_PER_S)):
                group.create_task(self._post(score_body([exchange])))
                await asyncio.sleep(1 / _SMALL_PER_S)

    async def _post(self, body: bytes) -> None:
        began = time.monotonic()
        try:
            async with HttpClient("127.0.0.1", self._service.port, "/score", _KEYS[1]) as client:
                response = await client.post(body, timeout_s=_TIMEOUT_S)
            if response.status != 200:
                text = response.body[:200].decode(errors="replace")
                self.record.problems[f"{response.status} {text}"] += 1
        except (OSError, TimeoutError) as exc:
            self.record.problems[f"{type(exc).__name__}: {exc}"] += 1
        self.record.seconds.append(time.monotonic() - began)


async def _both(greedy: _Busy, small: _Small, seconds: float) -> float:
    """Texts per second of both together."""
    async with greedy.sending():
        measured = asyncio.create_task(greedy.measured(seconds))
        await small.send(seconds)
        return await measured


class _Model:
    """The encoder in this process, with texts like those of the greedy caller, in batches of similar length."""

    def __init__(self) -> None:
        self._encoder = load_encoder(EMBEDDED_ENCODER, "cpu")
        self._texts = (text for row in generate_equal("model") for text in (row.prompt, row.response))

    def speed(self, seconds: float) -> float:
        """Texts per second, without the time of the tokenizer."""
        n, spent = 0, 0.0
        while spent < seconds:
            for batch in _batches(list(islice(self._texts, 1024)), self._encoder.limits.max_items):
                tokens = self._encoder.tokenize(batch)
                began = time.monotonic()
                self._encoder.embed(tokens)
                spent += time.monotonic() - began
                n += len(batch)
        return n / spent


def _batches(texts: list[str], size: int) -> Iterator[list[str]]:
    texts.sort(key=len)
    return (texts[start : start + size] for start in range(0, len(texts), size))


def _checks(outcome: _Outcome) -> list[Check]:
    small, rounds = outcome.small, outcome.rounds
    p99_s = quantile(small.seconds, 0.99)
    problems = f"{small.problems.total()} of {len(small.seconds)} {dict(small.problems.most_common(1)) or ''}"
    checks = [
        Check(f"the small caller's p99 ≤ {_MAX_SMALL_S:g} s", f"{p99_s:.2f} s", p99_s <= _MAX_SMALL_S),
        Check("the small caller is never refused", problems, not small.problems),
        _share("both together ÷ the greedy caller alone", [r.both / r.greedy_alone for r in rounds]),
        _share("the greedy caller alone ÷ ordinary requests", [r.greedy_alone / r.ordinary for r in rounds]),
    ]
    baseline = [r.greedy_alone / r.baseline for r in rounds if r.baseline]
    return [*checks, _share("the greedy caller alone ÷ at the other checkout", baseline)] if baseline else checks


def _share(name: str, ratios: list[float]) -> Check:
    share = median(ratios)
    measured = f"{share:.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"
    return Check(f"{name} ≥ {_MIN_SHARE}", measured, share >= _MIN_SHARE)


def _figures(outcome: _Outcome) -> list[Figure]:
    speeds = {
        "the model alone": [r.model_alone for r in outcome.rounds],
        f"ordinary requests, {_ORDINARY_ITEMS} items over {_ORDINARY_CONNECTIONS} connections": [
            r.ordinary for r in outcome.rounds
        ],
        "the greedy caller alone": [r.greedy_alone for r in outcome.rounds],
        "both together": [r.both for r in outcome.rounds],
    }
    return [
        Figure("the small caller: p50, p99, maximum", percentiles(outcome.small.seconds)),
        *(Figure(f"texts/s of {name}", ", ".join(f"{s:.0f}" for s in each)) for name, each in speeds.items()),
        Figure("the greedy caller's requests by status", f"{dict(outcome.greedy)}"),
    ]
