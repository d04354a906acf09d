"""Work of a request that scores: items are prepared, wait for the models, and become a reply.

ScoringWork ◀── ScoreWork   models score items with a recipe
            ◀── GoldWork    the gold model scores them alone
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any, Generic, Protocol, TypeVar

from reward_service.admission.memory import MemoryClaim
from reward_service.admission.work import HandlerWork, Work, WorkContext
from reward_service.batching import Steps, Submission, Unit, complete
from reward_service.errors import DeadlineError, GlassboxError
from reward_service.http.json_codec import dump_steps
from reward_service.http.request_context import request_context
from reward_service.models.protocols import Tokens
from reward_service.protocols.base import Body, Call, EndpointSpec, GoldSpec, HandlerSpec, ProtocolSpec
from reward_service.scoring.gold_only import GoldScoring, required_gold
from reward_service.scoring.job import Job
from reward_service.scoring.pipeline import Scoring, Worker

logger = logging.getLogger(__name__)

_INLINE_ITEMS, _INLINE_BYTES = 64, 64 * 1024
"""Items and bytes of a request up to which its reply is made on the event loop: it takes less than a millisecond.
A reply may repeat the request."""


class _Scoring(Protocol):
    """What `Scoring` and `GoldScoring` have in common."""

    n_items: int
    n_extra_bytes: int
    """Memory that it needs beside what its body was charged."""

    @property
    def workers(self) -> Sequence[Worker]: ...

    @property
    def units(self) -> Sequence[Sequence[Unit[Tokens]]]: ...

    def prepare(self) -> Steps[None]: ...


ScoringT = TypeVar("ScoringT", bound=_Scoring)


class ScoringWork(Work, Generic[ScoringT]):
    """Items are prepared, wait for the models, and become a reply."""

    async def _answer(self) -> bytes:
        caller = self._call.caller
        scoring = await self._prepared()
        done: list[Submission[Any]] = []
        with ExitStack() as stack:
            for worker, units in zip(scoring.workers, scoring.units, strict=True):
                submission = await worker.enqueue(units, caller, self._reserved.get(worker.name))
                done.append(stack.enter_context(closing(submission)))
            for submission in done:
                await submission.wait()
            if scoring.n_items <= _INLINE_ITEMS and self._n_bytes <= _INLINE_BYTES:
                return complete(self._reply(scoring, done))
            return await self._context.executor.run(caller, self._reply(scoring, done))

    async def _prepared(self) -> ScoringT:
        scoring: ScoringT = await self._run_steps(self._parse())
        if self._workers is None:
            self._admit(scoring.workers)
            await self._wait_if_held()
        elif not scoring.n_extra_bytes:
            return scoring
        await self._claim_more(scoring.n_extra_bytes)
        await self._run_steps(scoring.prepare())
        return scoring

    def _parse(self) -> Steps[ScoringT]:
        """Parse the body; prepare its items if the queues have room for them and no more memory is needed."""
        scoring = yield from self._start()
        if self._workers is not None and not scoring.n_extra_bytes:
            yield from scoring.prepare()
        return scoring

    @abstractmethod
    def _start(self) -> Steps[ScoringT]:
        """Parse the body and read its items."""

    @abstractmethod
    def _reply(self, scoring: ScoringT, done: Sequence[Submission[Any]]) -> Steps[bytes]:
        """The serialised reply, from what each worker has computed."""


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
        return self._context.scorer.workers_for(options.recipe, gold=options.gold, all_golds=options.all_golds)

    def _start(self) -> Steps[Scoring]:
        references = self._call.references() if self._call.references is not None else None
        parsed = yield from self._parsed()
        made = self._spec.job(parsed, self._call)
        del parsed
        job = made if isinstance(made, Job) else (yield from made)
        self._run, self._recipe = job.run, job.recipe.name
        try:
            return (yield from self._context.scorer.start(job, references))
        finally:
            if references is not None:
                self._context.metrics.looked_up(references.hits, references.misses)

    def _reply(self, scoring: Scoring, done: Sequence[Submission[Any]]) -> Steps[bytes]:
        reply = yield from scoring.reply(done)
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

    def _reply(self, scoring: GoldScoring, done: Sequence[Submission[Any]]) -> Steps[bytes]:
        reply = yield from scoring.reply(done)
        self._context.metrics.gold_scored(self._spec.name, scoring.n_items)
        return (yield from dump_steps(scoring.job.reply(reply)))


_WORKS: dict[type[EndpointSpec[Any]], type[Work]] = {
    ProtocolSpec: ScoreWork,
    GoldSpec: GoldWork,
    HandlerSpec: HandlerWork,
}


def new_work(spec: EndpointSpec[Any], call: Call, body: Body, context: WorkContext, claim: MemoryClaim) -> Work:
    """The work of a request of `spec`, whose memory `claim` holds."""
    return _WORKS[type(spec)](spec, call, body, context, claim)
