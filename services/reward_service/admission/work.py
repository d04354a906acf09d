"""Work of one request after its body has been read: admission, then everything that makes the reply.

    Work ◀── HandlerWork                a handler makes the reply
         ◀── ScoringWork ◀── ScoreWork  models score items with a recipe
                         ◀── GoldWork   the gold model scores them alone

Parsing, preparation and large replies are jobs of the `StepExecutor`, which the callers share fairly. What waits
there is limited like the queues of the models, and refused, or held, by the same rules.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from reward_service.admission.hold import AdmissionHold
from reward_service.batching import Reservation, StepExecutor, Steps, Submission, Unit, complete
from reward_service.errors import DeadlineError, GlassboxError, UnavailableError
from reward_service.http.json_codec import dump_steps, parse_steps
from reward_service.http.request_context import request_context
from reward_service.models.protocols import Tokens
from reward_service.protocols.base import Body, Call, EndpointSpec, GoldSpec, HandlerSpec, NoBody, ProtocolSpec
from reward_service.scoring.gold_only import GoldScoring, required_gold
from reward_service.scoring.pipeline import Scorer, Scoring, Worker
from reward_service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_INLINE_ITEMS, _INLINE_BYTES = 64, 64 * 1024
"""Items and bytes of a request up to which its reply is made on the event loop: it takes less than a millisecond.
A reply may repeat the request."""


@dataclass(frozen=True, slots=True)
class WorkContext:
    """What works of all requests share."""

    scorer: Scorer
    executor: StepExecutor
    hold: AdmissionHold
    metrics: Metrics


class Work(ABC):
    """Answers one request: `admit`, then `run` once."""

    def __init__(self, spec: EndpointSpec[Any], call: Call, body: Body, context: WorkContext) -> None:
        self._spec = spec
        self._call = call
        self._body: Body = body
        self._n_bytes = len(body)
        self._context = context
        self._workers: Sequence[Worker] | None = None
        """Of the models that the request needs, once they are known."""
        self._reserved: dict[str, Reservation] = {}
        self._checked = False
        """Whether capacity was checked; without room, the request is held."""
        self._has_room = False
        self._started = False

    def admit(self) -> None:
        """Check capacity: of the models too, if they are known without parsing the body.

        Raises:
            NotReadyError, OverloadedError: refused; a request of a protocol with `hold_s` waits in `run` instead.
            InvalidRequestError: the service lacks a model that the request needs.
        """
        self._admit(self._known_workers())

    async def run(self) -> bytes:
        """The serialised reply. Raises GlassboxError."""
        self._started = True
        try:
            if not self._checked:
                self.admit()
            await self._wait_if_held()
            return await self._answer()
        finally:
            self._release()

    def close_if_unstarted(self) -> None:
        """Release the room of work that will not run."""
        if not self._started:
            self._release()

    @abstractmethod
    def _known_workers(self) -> Sequence[Worker] | None:
        """Of the models that the request needs; None if only its body shows that."""

    @abstractmethod
    async def _answer(self) -> bytes: ...

    async def _run_steps(self, steps: Steps[Any]) -> Any:
        return await self._context.executor.run(self._call.caller, steps, self._n_bytes)

    def _parsed(self) -> Steps[Any]:
        if self._spec.request_model is NoBody:
            return NoBody()
        parsed = yield from parse_steps(self._spec.request_model, self._body, self._call.settings)
        self._body = b""
        return parsed

    # Capacity -----------------------------------------------------------------------------------------------

    @property
    def _resource(self) -> str:
        """Names the queue of held requests: those that need the same models wait for each other."""
        return "+".join(["preparation", *(worker.name for worker in self._workers or ())])

    def _admit(self, workers: Sequence[Worker] | None) -> None:
        self._workers, self._checked, self._has_room = workers, True, False
        self._context.hold.admit_now(self._spec, self._call.caller, self._resource, self._reserve)

    async def _wait_if_held(self) -> None:
        if not self._has_room:
            await self._context.hold.wait(self._spec, self._call.caller, self._resource, self._reserve)

    def _reserve(self) -> None:
        """Take room in the queues of all models, or in none and raise NotReadyError or OverloadedError."""
        self._context.executor.check(self._call.caller)
        try:
            for worker in self._workers or ():
                self._reserved[worker.name] = worker.reserve(self._call.caller, self._n_bytes)
        except UnavailableError:
            self._release()
            raise
        self._has_room = True

    def _release(self) -> None:
        for reservation in self._reserved.values():
            reservation.release()


class HandlerWork(Work):
    """The work of a HandlerSpec, which needs no model."""

    _spec: HandlerSpec[Any]

    def _known_workers(self) -> list[Worker]:
        return []

    async def _answer(self) -> bytes:
        content: bytes = await self._run_steps(self._steps())
        return content

    def _steps(self) -> Steps[bytes]:
        parsed = yield from self._parsed()
        made = self._spec.handle(parsed, self._call)
        reply = made if isinstance(made, BaseModel) else (yield from made)
        return (yield from dump_steps(reply))


class _Scoring(Protocol):
    """What `Scoring` and `GoldScoring` have in common."""

    n_items: int

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
        job = self._spec.job(parsed, self._call)
        del parsed
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


def new_work(spec: EndpointSpec[Any], call: Call, body: Body, context: WorkContext) -> Work:
    """The work of a request of `spec`."""
    return _WORKS[type(spec)](spec, call, body, context)
