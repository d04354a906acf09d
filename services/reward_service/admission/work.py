"""Work of one request after its body has been read: admission to the model queues, scoring, serialisation."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import Any

from reward_service.admission.hold import AdmissionHold
from reward_service.batching import Reservation
from reward_service.http.json_codec import dump, parse
from reward_service.http.request_context import request_context
from reward_service.protocols.base import Body, Call, ProtocolSpec
from reward_service.scoring.pipeline import Scorer, Scoring, Worker
from reward_service.telemetry.metrics import Metrics

__all__ = ["Work"]

logger = logging.getLogger(__name__)

_INLINE_ITEMS = 64
"""Items up to which a reply is made on the event loop: it takes less than a millisecond."""


class Work:
    """Scores one request: `admit`, then `run` once."""

    def __init__(
        self,
        spec: ProtocolSpec[Any],
        call: Call,
        body: Body,
        scorer: Scorer,
        hold: AdmissionHold,
        metrics: Metrics,
    ) -> None:
        self._spec = spec
        self._call = call
        self._body: Body = body
        self._scorer = scorer
        self._hold = hold
        self._metrics = metrics
        self._started = False
        self._workers: list[Worker] | None = None
        """Of the models that the request needs, once they are known."""
        self._reserved: dict[str, Reservation] = {}
        self._caller = request_context().caller
        self._n_bytes = len(body)
        self._checked = False

    def admit(self) -> None:
        """Check capacity, if the models are known without parsing the body.

        Raises:
            NotReadyError, OverloadedError: refused; a request of a protocol with `hold_s` waits in `run` instead.
        """
        options = self._call.options
        if options is not None:
            self._check(self._scorer.workers_for(encoder=options.recipe.needs_encoder, gold=options.wants_gold))

    async def run(self) -> bytes:
        """The serialised reply. Raises GlassboxError."""
        self._started = True
        try:
            scoring = await self._admitted_and_prepared()
            with closing(scoring):
                await scoring.enqueue(self._caller, self._reserved)
                self._release()
                await scoring.wait()
                if len(scoring.job.entries) <= _INLINE_ITEMS:
                    return self._serialise(scoring)
                return await asyncio.to_thread(self._serialise, scoring)
        finally:
            self._release()

    def close_if_unstarted(self) -> None:
        """Release the capacity of work that will not run."""
        if not self._started:
            self._release()

    async def _admitted_and_prepared(self) -> Scoring:
        if not self._checked:
            self.admit()
        if self._checked:
            await self._wait_if_held()
            return await asyncio.to_thread(self._parse, prepare=True)
        scoring = await asyncio.to_thread(self._parse, prepare=False)
        self._check(scoring.workers)
        await self._wait_if_held()
        await asyncio.to_thread(scoring.prepare)
        return scoring

    def _parse(self, *, prepare: bool) -> Scoring:
        parsed = parse(self._spec.request_model, self._body, self._call.settings)
        self._body = b""
        scoring = self._scorer.start(self._spec.job(parsed, self._call))
        if prepare:
            scoring.prepare()
        return scoring

    def _serialise(self, scoring: Scoring) -> bytes:
        reply = scoring.reply()
        job = scoring.job
        self._metrics.scored(self._spec.name, reply)
        logger.debug(
            "scored %d items: protocol=%s run=%r step=%s", len(job.entries), self._spec.name, job.run, job.step
        )
        return dump(self._spec.reply(reply, job, self._call))

    # Capacity -----------------------------------------------------------------------------------------------

    def _check(self, workers: list[Worker]) -> None:
        self._checked = True
        self._workers = workers
        if workers:
            self._hold.admit_now(self._spec, self._caller, self._resource, self._reserve)

    async def _wait_if_held(self) -> None:
        if self._workers and not self._reserved:
            await self._hold.wait(self._spec, self._caller, self._resource, self._reserve, self._loaded)

    @property
    def _resource(self) -> str:
        return "+".join(worker.name for worker in self._workers or ())

    def _reserve(self) -> None:
        if not self._reserved:
            self._reserved = self._scorer.reserve(self._workers or (), self._caller, self._n_bytes)

    def _release(self) -> None:
        for reservation in self._reserved.values():
            reservation.release()

    async def _loaded(self) -> None:
        for worker in self._workers or ():
            await worker.loaded()
