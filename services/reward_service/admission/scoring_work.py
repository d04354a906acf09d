"""Work of requests that models score: with a recipe (`ScoreWork`), or by the gold model alone (`GoldWork`)."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Generic, Protocol, TypeVar

from reward_service.admission.work import HandlerWork, Work, WorkContext
from reward_service.batching import Reservation, Steps, complete
from reward_service.errors import DeadlineError, GlassboxError
from reward_service.http.json_codec import dump_steps
from reward_service.http.request_context import request_context
from reward_service.protocols.base import Body, Call, EndpointSpec, GoldSpec, HandlerSpec, ProtocolSpec
from reward_service.scoring.gold_only import GoldScoring, required_gold
from reward_service.scoring.pipeline import Scoring, Worker

logger = logging.getLogger(__name__)

_INLINE_ITEMS, _INLINE_BYTES = 64, 64 * 1024
"""Items and bytes of a request up to which its reply is made on the event loop: it takes less than a millisecond.
A reply may repeat the request."""


class _Scoring(Protocol):
    """What `Scoring` and `GoldScoring` have in common."""

    n_items: int

    @property
    def workers(self) -> Sequence[Worker]: ...

    def prepare(self) -> Steps[None]: ...

    async def enqueue(self, caller: str, reserved: Mapping[str, Reservation]) -> None: ...

    async def wait(self) -> None: ...

    def close(self) -> None: ...


ScoringT = TypeVar("ScoringT", bound=_Scoring)


class ScoringWork(Work, Generic[ScoringT]):
    """Items are prepared, wait for the models, and become a reply."""

    async def _answer(self) -> bytes:
        caller = self._call.caller
        with closing(await self._prepared()) as scoring:
            await scoring.enqueue(caller, self._reserved)
            await scoring.wait()
            if scoring.n_items <= _INLINE_ITEMS and self._n_bytes <= _INLINE_BYTES:
                return complete(self._reply(scoring))
            return await self._context.executor.run(caller, self._reply(scoring))

    async def _prepared(self) -> ScoringT:
        scoring: ScoringT = await self._run_steps(self._parse())
        if self._workers is None:
            self._workers, self._has_room = scoring.workers, False
            self._check()
            await self._wait_if_held()
            await self._run_steps(scoring.prepare())
        return scoring

    def _parse(self) -> Steps[ScoringT]:
        """Parse the body, and prepare its items if the request was admitted to the models' queues."""
        scoring = yield from self._start()
        if self._workers is not None:
            yield from scoring.prepare()
        return scoring

    @abstractmethod
    def _start(self) -> Steps[ScoringT]:
        """Parse the body and read its items."""

    @abstractmethod
    def _reply(self, scoring: ScoringT) -> Steps[bytes]:
        """The serialised reply."""


class ScoreWork(ScoringWork[Scoring]):
    """The work of a ProtocolSpec."""

    _spec: ProtocolSpec[Any]

    _recipe: str | None = None
    """Name, once the body is parsed."""
    _run: str | None = None

    async def run(self) -> bytes:
        """The serialised reply. An exception, or the end of the request before it, is a failure of the run."""
        self._run = self._call.path.get("run")
        try:
            return await super().run()
        except (Exception, asyncio.CancelledError) as exc:
            self._context.metrics.run_failed(self._run, self._recipe, _cause(exc))
            raise

    def _known_workers(self) -> list[Worker] | None:
        options = self._call.options
        if options is None:
            return None
        gold, all_golds = options.gold, options.all_golds
        return self._context.scorer.workers_for(options.recipe, gold=gold, all_golds=all_golds)

    def _start(self) -> Steps[Scoring]:
        references = self._call.references() if self._call.references is not None else None
        parsed = yield from self._parsed()
        job = self._spec.job(parsed, self._call)
        del parsed
        self._run, self._recipe = job.run, job.recipe.name
        try:
            return (yield from self._context.scorer.start(job, references))
        finally:
            if references is not None:
                self._context.metrics.looked_up(references.hits, references.misses)

    def _reply(self, scoring: Scoring) -> Steps[bytes]:
        reply = yield from scoring.reply()
        job, name = scoring.job, self._spec.name
        self._context.metrics.scored(name, job.run, reply)
        logger.debug("scored %d items: protocol=%s run=%r step=%s", scoring.n_items, name, job.run, job.step)
        return (yield from dump_steps(self._spec.reply(reply, job, self._call)))


def _cause(exc: BaseException) -> str:
    """Label of a failure; `dropped` if the client left, or the service stopped."""
    if isinstance(exc, asyncio.CancelledError):
        limit = request_context().limit
        return DeadlineError.cause if limit is not None and limit.expired() else "dropped"
    return exc.cause if isinstance(exc, GlassboxError) else GlassboxError.cause


class GoldWork(ScoringWork[GoldScoring]):
    """The work of a GoldSpec."""

    _spec: GoldSpec[Any]

    def _known_workers(self) -> list[Worker]:
        return [required_gold(self._context.scorer.gold)]

    def _start(self) -> Steps[GoldScoring]:
        parsed = yield from self._parsed()
        job = self._spec.job(parsed, self._call)
        del parsed
        return (yield from self._context.scorer.start_gold(job))

    def _reply(self, scoring: GoldScoring) -> Steps[bytes]:
        reply = yield from scoring.reply()
        self._context.metrics.gold_scored(self._spec.name, scoring.n_items)
        return (yield from dump_steps(scoring.job.reply(reply)))


_WORKS: dict[type[EndpointSpec[Any]], type[Work]] = {
    ProtocolSpec: ScoreWork,
    GoldSpec: GoldWork,
    HandlerSpec: HandlerWork,
}


def new_work(spec: EndpointSpec[Any], call: Call, body: Body, context: WorkContext) -> Work:
    """The work of a request of `spec`."""
    return _WORKS[type(spec)](spec, call, body, context)
