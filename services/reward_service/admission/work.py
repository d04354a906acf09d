"""Work of one request after its body has been read: admission to the model queues, scoring, serialisation.

Parsing, preparation and large replies are jobs of the `StepExecutor`, which the callers share fairly. What waits
there is limited like the queues of the models, and refused, or held, by the same rules.
"""

import logging
from contextlib import closing
from typing import Any

from reward_service.admission.hold import AdmissionHold
from reward_service.batching import Reservation, StepExecutor, Steps, complete
from reward_service.http.json_codec import dump_steps, parse_steps
from reward_service.protocols.base import Body, Call, ProtocolSpec
from reward_service.scoring.pipeline import Scorer, Scoring, Worker
from reward_service.telemetry.metrics import Metrics

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
        executor: StepExecutor,
        hold: AdmissionHold,
        metrics: Metrics,
    ) -> None:
        self._spec = spec
        self._call = call
        self._body: Body = body
        self._n_bytes = len(body)
        self._scorer = scorer
        self._executor = executor
        self._hold = hold
        self._metrics = metrics
        self._workers: list[Worker] | None = None
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
        """
        options = self._call.options
        if options is not None:
            self._workers = self._scorer.workers_for(options.recipe, gold=options.gold)
        self._check()

    async def run(self) -> bytes:
        """The serialised reply. Raises GlassboxError."""
        self._started = True
        caller = self._call.caller
        try:
            with closing(await self._prepared()) as scoring:
                await scoring.enqueue(caller, self._reserved)
                await scoring.wait()
                if scoring.n_items <= _INLINE_ITEMS:
                    return complete(self._reply(scoring))
                return await self._executor.run(caller, self._reply(scoring))
        finally:
            self._release()

    def close_if_unstarted(self) -> None:
        """Release the room of work that will not run."""
        if not self._started:
            self._release()

    async def _prepared(self) -> Scoring:
        if not self._checked:
            self.admit()
        await self._wait_if_held()
        scoring = await self._executor.run(self._call.caller, self._parse(), self._n_bytes)
        if self._workers is None:
            self._workers, self._has_room = scoring.workers, False
            self._check()
            await self._wait_if_held()
            await self._executor.run(self._call.caller, scoring.prepare(), self._n_bytes)
        return scoring

    def _parse(self) -> Steps[Scoring]:
        """Parse the body, and prepare its items if the request was admitted to the models' queues."""
        parsed = yield from parse_steps(self._spec.request_model, self._body, self._call.settings)
        self._body = b""
        job = self._spec.job(parsed, self._call)
        del parsed
        scoring = yield from self._scorer.start(job)
        if self._workers is not None:
            yield from scoring.prepare()
        return scoring

    def _reply(self, scoring: Scoring) -> Steps[bytes]:
        reply = yield from scoring.reply()
        job = scoring.job
        self._metrics.scored(self._spec.name, reply)
        logger.debug(
            "scored %d items: protocol=%s run=%r step=%s", scoring.n_items, self._spec.name, job.run, job.step
        )
        return (yield from dump_steps(self._spec.reply(reply, job, self._call)))

    # Capacity -----------------------------------------------------------------------------------------------

    @property
    def _resource(self) -> str:
        """Names the queue of held requests: those that need the same models wait for each other."""
        return "+".join(["preparation", *(worker.name for worker in self._workers or ())])

    def _check(self) -> None:
        self._checked = True
        self._hold.admit_now(self._spec, self._call.caller, self._resource, self._reserve)

    async def _wait_if_held(self) -> None:
        if not self._has_room:
            await self._hold.wait(self._spec, self._call.caller, self._resource, self._reserve)

    def _reserve(self) -> None:
        self._executor.check(self._call.caller)
        if not self._reserved and self._workers:
            self._reserved = self._scorer.reserve(self._workers, self._call.caller, self._n_bytes)
        self._has_room = True

    def _release(self) -> None:
        for reservation in self._reserved.values():
            reservation.release()
