"""Work of one request after its body has been read: admission, then everything that makes the reply.

    Work ◀── HandlerWork   a handler makes the reply
         ◀── ScoringWork   models score items: `scoring_work`

Parsing, preparation and large replies are jobs of the `StepExecutor`, which the callers share fairly. What waits
there is limited like the queues of the models, and refused, or held, by the same rules.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from reward_service.admission.hold import AdmissionHold
from reward_service.admission.memory import MAX_PAUSE_S, MemoryClaim
from reward_service.batching import Reservation, StepExecutor, Steps
from reward_service.errors import UnavailableError
from reward_service.http.json_codec import dump_steps, parse_steps
from reward_service.protocols.base import (
    Body,
    Call,
    EndpointSpec,
    HandlerSpec,
    LargeReply,
    NoBody,
)
from reward_service.scoring.pipeline import Scorer, Worker
from reward_service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkContext:
    """What works of all requests share."""

    scorer: Scorer
    executor: StepExecutor
    hold: AdmissionHold
    metrics: Metrics


class Work(ABC):
    """Answers one request: `admit`, then `run` once."""

    def __init__(
        self, spec: EndpointSpec[Any], call: Call, body: Body, context: WorkContext, claim: MemoryClaim
    ) -> None:
        self._spec = spec
        self._claim = claim
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

    async def _claim_more(self, n_bytes: int) -> None:
        """Hold memory that the body did not show. Raises NoRoomError."""
        if n_bytes:
            await self._claim.take(n_bytes, max(self._context.hold.hold_s(self._spec), MAX_PAUSE_S))

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
        made: bytes | LargeReply = await self._run_steps(self._steps())
        if isinstance(made, LargeReply):
            await self._claim_more(made.n_bytes)
            content: bytes = await self._run_steps(_dumped(made.steps))
            return content
        return made

    def _steps(self) -> Steps[bytes | LargeReply]:
        parsed = yield from self._parsed()
        made = self._spec.handle(parsed, self._call)
        reply = made if isinstance(made, BaseModel) else (yield from made)
        return reply if isinstance(reply, LargeReply) else (yield from dump_steps(reply))


def _dumped(steps: Steps[BaseModel]) -> Steps[bytes]:
    reply = yield from steps
    return (yield from dump_steps(reply))
