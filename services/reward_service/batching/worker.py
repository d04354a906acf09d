"""A thin worker that owns one model: it loads it, feeds it batches, and hands out what comes back.

There is no timer: a batch is made of what waits when the model is free. It starts before the results of the batch
before it are handed out, so that the model does not wait for that. A request is admitted whole or refused whole. A
batch that fails is halved until the items at fault stand alone, so that their neighbours get their
results. A model that does not come back is left behind with its thread, and loaded anew, a few times.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from reward_service.batching.executor import ModelThread
from reward_service.batching.metrics_hook import BatchStats, MetricsHook
from reward_service.batching.queue import BatchLimits, BatchQueue, Entry, Ticket, Unit
from reward_service.batching.submission import Done, Submission
from reward_service.errors import GlassboxError, ModelError, NotReadyError, OverloadedError

__all__ = ["ModelWorker"]

InT = TypeVar("InT")
OutT = TypeVar("OutT")
ModelT = TypeVar("ModelT")

logger = logging.getLogger(__name__)


class ModelWorker(Generic[ModelT, InT, OutT]):
    """Loads a model in a thread of its own, and runs it there on batches of what many requests submit.

    Args:
        name: for logs and metrics.
        load: loads the model; called in the worker's thread.
        run: maps the model and a batch to its results, in order; called in the worker's thread only.
        limits: what one batch of a loaded model may hold.
        max_waiting_items: items that may wait before new submissions are refused.
        max_waiting_s: seconds of work, at the measured speed, that may wait before that.
        batch_timeout_s: seconds after which a forward pass counts as hung.
        max_restarts: times that a hung model is loaded anew; after that the worker ends.
        finite: whether a result is made of finite numbers; others are counted, and left to whoever asked.
        keep: is given each key with its finite result as soon as its batch ends, whether or not its caller still
            waits.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], ModelT],
        run: Callable[[ModelT, Sequence[InT]], Sequence[OutT]],
        *,
        limits: Callable[[ModelT], BatchLimits],
        max_waiting_items: int,
        max_waiting_s: float = math.inf,
        batch_timeout_s: float = 600.0,
        max_restarts: int = 3,
        keep: Callable[[Hashable, OutT], None] | None = None,
        finite: Callable[[OutT], bool] = lambda _: True,
        observer: MetricsHook | None = None,
    ) -> None:
        self.name = name
        self._load = load
        self._run = run
        self._limits = limits
        self._max_waiting_items = max_waiting_items
        self._max_waiting_s = max_waiting_s
        self._batch_timeout_s = batch_timeout_s
        self._restarts_left = max_restarts
        self._keep = keep
        self._finite = finite
        self._observer = observer
        self._queue: BatchQueue[InT, OutT] = BatchQueue()
        self._open: dict[Ticket[InT, OutT], Submission[OutT]] = {}
        self._arrived = asyncio.Event()
        self._tokens_per_s: float | None = None  # not known before the first batch behind which others wait
        self._others_wait = False
        self._results: tuple[list[Entry[InT, OutT]], Sequence[OutT]] | None = None  # of the last batch
        self._pass_ended = asyncio.Event()  # set while no forward pass runs
        self._pass_ended.set()
        self._last_failed = False
        self._was_loaded = False

    async def __aenter__(self) -> Self:
        self._start_loading()
        self._task = asyncio.create_task(self._serve(), name=f"model-worker-{self.name}")
        self._task.add_done_callback(self._tell_everyone)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.stop()
        await asyncio.to_thread(self._thread.join, 5.0)

    # What others ask --------------------------------------------------------------------------------------------

    @property
    def loading(self) -> bool:
        """Whether the model is being loaded."""
        return not self._loaded.done()

    @property
    def model(self) -> ModelT | None:
        """The model, once it is loaded."""
        return None if self.loading or self._loading_failed else self._loaded.result()

    @property
    def busy(self) -> bool:
        """Whether a forward pass runs now, or something waits for one."""
        return not self._pass_ended.is_set() or self._queue.waiting_items > 0

    @property
    def gone(self) -> bool:
        """Whether a model that was loaded will not work again in this process."""
        return self._task.done() and self._was_loaded

    async def loaded(self) -> ModelT:
        """The model, once it is loaded. Raises NotReadyError, with the cause, when it cannot be."""
        try:
            return await asyncio.shield(self._loaded)
        except Exception as exc:
            raise self._not_loaded() from exc

    async def ready(self) -> ModelT:
        """The model, when it works, however much waits for it. Raises NotReadyError."""
        self._check_it_works()
        return await self.loaded()

    def check(self, n: int = 1) -> None:
        """Return when `n` items would be admitted now.

        Raises:
            NotReadyError: the model is loading, could not be loaded, or was stopped.
            OverloadedError: too many items wait already, or too many seconds of work.
        """
        self._check_room(n)
        self._check_it_works()

    def _check_room(self, n: int) -> None:
        """What waits may be too many items for the memory, or too much work to be done in time."""
        waiting = self._queue.waiting_items
        wait_s = self._queue.waiting_tokens / self._tokens_per_s if self._tokens_per_s else 0.0
        if waiting and (waiting + n > self._max_waiting_items or wait_s > self._max_waiting_s):
            raise OverloadedError(
                f"{waiting} items wait for the {self.name} model, about {wait_s:.0f} s of work; at most "
                f"{self._max_waiting_items} items and {self._max_waiting_s:g} s may",
                retry_after_s=wait_s / 2,  # half of it done makes room
            )

    def _check_it_works(self) -> None:
        if self.loading:
            raise NotReadyError(f"the {self.name} model is loading", retry_after_s=2.0)
        if self._loading_failed:
            raise self._not_loaded()
        if self._task.done():
            raise self._stopped()

    async def progress(self) -> None:
        """Return when the forward pass that runs now has ended. Raises ModelError when the last one failed."""
        await self._pass_ended.wait()
        if self._last_failed:
            raise ModelError(f"the last forward pass of the {self.name} model failed")

    def admit(self, units: Sequence[Unit[InT]]) -> Submission[OutT]:
        """Queue all of `units`, or none of them: then it raises what `check` raises."""
        if units:
            self.check(len(units))
        submission = Submission(self._queue.admit(units), self._forget)
        if not units:
            submission.finish()
        self._open[submission.ticket] = submission
        self._report_waiting()
        self._arrived.set()
        return submission

    async def submit(self, units: Sequence[Unit[InT]]) -> Done[OutT]:
        """Outcomes for `units`, in order, once the model has seen them. Raises what `check` raises."""
        submission = self.admit(units)
        try:
            return await submission.done()
        finally:
            submission.close()

    def _forget(self, ticket: Ticket[InT, OutT]) -> None:
        if self._open.pop(ticket, None) is not None:
            self._queue.close(ticket)
            self._report_waiting()

    # Batches ----------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            model = await asyncio.shield(self._loaded)
            self._was_loaded = True
            try:
                await self._feed(model)
            except _HungError:
                self._restart()

    async def _feed(self, model: ModelT) -> None:
        limits = self._limits(model)
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._queue.take(limits):
                self._report_waiting()
                self._others_wait = self._queue.waiting_items > 0
                await self._run_batch(model, batch)
            self._hand_out_results()

    async def _run_batch(self, model: ModelT, batch: list[Entry[InT, OutT]]) -> None:
        """Run `batch` in one call; when that fails, each half on its own."""
        started = time.monotonic()
        waiting = self._begin(batch, started)
        try:
            results = await self._call_model(model, [entry.unit.value for entry in batch])
        except _HungError as exc:
            self._note_failure("hung")
            self._hand_out(batch, [exc] * len(batch))
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a model raises is told to whoever waits for it
            await self._isolate(model, batch, exc)
        else:
            self._last_failed = False
            seconds = time.monotonic() - started
            for submission in waiting:
                submission.model_s += seconds
            self._observe(batch, len(waiting), seconds)
            self._results = batch, results

    async def _call_model(self, model: ModelT, items: list[InT]) -> Sequence[OutT]:
        self._pass_ended.clear()
        try:
            async with asyncio.timeout(self._batch_timeout_s) as limit:
                running = self._thread.call(self._run, model, items)
                self._hand_out_results()
                results = await running
        except TimeoutError as exc:
            if not limit.expired():
                raise  # the model's own
            raise _HungError(f"the {self.name} model hung: no answer in {self._batch_timeout_s:g} s") from exc
        finally:
            self._pass_ended.set()
        if len(results) != len(items) or any(result is None for result in results):
            raise ModelError(
                f"the {self.name} model gave {len(results)} results for {len(items)} items, or gave none"
            )
        return results

    async def _isolate(self, model: ModelT, batch: list[Entry[InT, OutT]], exc: Exception) -> None:
        self._note_failure(type(exc).__name__)
        traceback.clear_frames(exc.__traceback__)  # what the model had allocated is needed for the halves
        if len(batch) > 1:
            middle = len(batch) // 2
            try:
                await self._run_batch(model, batch[:middle])
            except _HungError as hung:
                self._hand_out(batch[middle:], [hung] * (len(batch) - middle))
                raise
            await self._run_batch(model, batch[middle:])
            return
        logger.warning(
            "the %s model failed on an item of %d tokens", self.name, batch[0].unit.n_tokens, exc_info=exc
        )
        error = exc if isinstance(exc, GlassboxError) else ModelError(f"the {self.name} model failed: {exc}")
        error.__cause__ = None if error is exc else exc
        self._hand_out(batch, [error])

    def _note_failure(self, cause: str) -> None:
        self._last_failed = True
        if self._observer is not None:
            self._observer.batch_failed(self.name, cause)

    def _begin(self, batch: list[Entry[InT, OutT]], now: float) -> list[Submission[OutT]]:
        """Note who gets something of `batch`, and for whom it is the first."""
        tickets = {ticket for entry in batch for ticket, _ in entry.wanted_by}
        waiting = [self._open[ticket] for ticket in tickets if ticket in self._open]
        for submission in waiting:
            if submission.started is None:
                submission.started = now
                if self._observer is not None:
                    self._observer.waited(self.name, now - submission.submitted)
        return waiting

    def _hand_out_results(self) -> None:
        """Those of the last batch that succeeded, while the model works on the next one, or has nothing to do."""
        if self._results is not None:
            batch, results = self._results
            self._results = None
            self._hand_out(batch, results)

    def _hand_out(self, batch: list[Entry[InT, OutT]], outcomes: Sequence[OutT | Exception]) -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                self._look_at(entry.unit.key, outcome)
            for ticket in self._queue.complete(entry, outcome):
                if ticket in self._open:
                    self._open[ticket].finish()

    def _look_at(self, key: Hashable, outcome: OutT) -> None:
        if not self._finite(outcome):
            if self._observer is not None:
                self._observer.not_finite(self.name)
        elif self._keep is not None:
            self._keep(key, outcome)

    def _observe(self, batch: list[Entry[InT, OutT]], requests: int, seconds: float) -> None:
        lengths = [entry.unit.n_tokens for entry in batch]
        if self._others_wait:  # a batch that has all there is says little of what a full one would take
            now = sum(lengths) / max(seconds, 1e-6)
            self._tokens_per_s = 0.8 * self._tokens_per_s + 0.2 * now if self._tokens_per_s else now
        if self._observer is not None:
            facts = BatchStats(len(batch), sum(lengths), max(lengths) * len(batch), requests, seconds)
            self._observer.batch_done(self.name, facts)

    def _report_waiting(self) -> None:
        if self._observer is not None:
            self._observer.waiting(self.name, self._queue.waiting_items, self._queue.waiting_tokens)

    # Start, restart, end ----------------------------------------------------------------------------------------

    def _start_loading(self) -> None:
        self._thread = ModelThread(f"model-{self.name}")
        self._loaded = self._thread.call(self._load)
        self._loaded.add_done_callback(self._log_loading)

    def _restart(self) -> None:
        self._thread.stop()  # whenever it comes back
        if not self._restarts_left:
            raise ModelError(f"the {self.name} model hung too often; restart the service")
        self._restarts_left -= 1
        logger.error("the %s model hung; loading it anew, %d restarts left", self.name, self._restarts_left)
        if self._observer is not None:
            self._observer.restarted(self.name)
        self._start_loading()
        self._arrived.set()

    @property
    def _loading_failed(self) -> bool:
        return self._loaded.done() and (self._loaded.cancelled() or self._loaded.exception() is not None)

    def _not_loaded(self) -> NotReadyError:
        cause = None if self._loaded.cancelled() else self._loaded.exception()
        return NotReadyError(f"the {self.name} model could not be loaded: {cause}", retry_after_s=30.0)

    def _stopped(self) -> NotReadyError:
        return NotReadyError(f"the {self.name} model was stopped", retry_after_s=2.0)

    def _tell_everyone(self, task: asyncio.Task[None]) -> None:
        """Nobody waits for a worker that has ended."""
        if not task.cancelled() and (exc := task.exception()) is not None and not self._loading_failed:
            logger.error("the worker of the %s model ended", self.name, exc_info=exc)
        for submission in self._open.values():
            submission.finish(self._stopped())

    def _log_loading(self, loaded: asyncio.Future[ModelT]) -> None:
        if loaded.cancelled():
            return
        if (exc := loaded.exception()) is not None:
            logger.error("the %s model could not be loaded: %s", self.name, exc)
        else:
            logger.info("the %s model is loaded", self.name)


class _HungError(ModelError):
    """A forward pass that did not come back in time."""
