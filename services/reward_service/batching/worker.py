"""The worker of one model: it loads the model, admits requests to its queue, and restarts it when it hangs.

    enqueue(units) ──▶ queue ──▶ BatchRunner ──▶ Executor (the model's thread) ──▶ outcomes of each submission

A request is admitted as a whole or rejected as a whole. A model that hangs is abandoned together with its thread,
and loaded again up to `max_restarts` times.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from reward_service.batching.batch_runner import BatchRunner, HungError, MetricsHook, Run
from reward_service.batching.callers import BatchLimits
from reward_service.batching.executors import Executor, ThreadExecutor
from reward_service.batching.queue import BatchQueue, Submission, Unit
from reward_service.batching.reservations import Reservation
from reward_service.errors import ModelError, NotLoadedError, NotReadyError, OverloadedError

InT = TypeVar("InT")
OutT = TypeVar("OutT")
ModelT = TypeVar("ModelT")

logger = logging.getLogger(__name__)

_UNITS_AT_ONCE = 1024
"""Units queued in one step, which takes about two milliseconds."""


class ModelWorker(Generic[ModelT, InT, OutT]):
    """Loads one model and runs it on batches of the units of many requests.

    Args:
        name: for metrics and `GET /info`.
        load: loads the model; called by the executor. Awaitable if the executor is for coroutines, as `run`.
        run: computes the results of a batch, in order; called by the executor. Awaitable if the executor is for
            coroutines.
        limits: the limits of a batch for the loaded model.
        max_waiting_items: maximum queued items, shared by the callers.
        max_waiting_s: maximum seconds that a caller's queued work may wait, at the measured speed.
        batch_timeout_s: seconds after which a forward pass counts as hung.
        max_restarts: how often a model that hung is loaded again; after that the worker ends.
        finite: whether a result has finite numbers only; other results are counted in the metrics.
        keep: called with each key and its finite result when the batch ends, also if no caller waits any more.
        metrics_hook: receives the worker's events.
        executor: makes the executor for a loaded model; one in a thread by default.
        runner: makes the runner of the batches; one batch at a time by default.
        label: for messages: which model it is; "NAME model" by default.
        trouble: why the model cannot be used now, if it is known; None otherwise.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], ModelT | Awaitable[ModelT]],
        run: Run[ModelT, InT, OutT],
        *,
        limits: Callable[[ModelT], BatchLimits],
        max_waiting_items: int,
        max_waiting_s: float = math.inf,
        batch_timeout_s: float = 600.0,
        max_restarts: int = 3,
        keep: Callable[[Hashable, OutT], None] | None = None,
        finite: Callable[[OutT], bool] = lambda _: True,
        metrics_hook: MetricsHook | None = None,
        executor: Callable[[str], Executor] = ThreadExecutor,
        runner: Callable[..., BatchRunner[ModelT, InT, OutT]] = BatchRunner,
        label: str | None = None,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.name = name
        self.label = label or f"{name} model"
        self.trouble = trouble
        self._load = load
        self._limits = limits
        self._max_waiting_s = max_waiting_s
        self._restarts_left = max_restarts
        self._metrics_hook = metrics_hook
        self._new_executor = executor
        self._queue: BatchQueue[InT, OutT] = BatchQueue(max_waiting_items)
        self._runner = runner(
            name,
            run,
            self._queue,
            batch_timeout_s=batch_timeout_s,
            keep=keep,
            finite=finite,
            metrics_hook=metrics_hook,
            label=self.label,
        )
        self._arrived = asyncio.Event()
        self._was_loaded = False

    async def __aenter__(self) -> Self:
        self._start_loading()
        self._task = asyncio.create_task(self._serve(), name=f"model-worker-{self.name}")
        self._task.add_done_callback(self._end_submissions)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._runner.stop()
        self._executor.stop()
        await asyncio.to_thread(self._executor.join, 5.0)

    # State and admission ----------------------------------------------------------------------------------------

    @property
    def loading(self) -> bool:
        """Whether the model is being loaded."""
        return not self._loaded.done()

    @property
    def state(self) -> str:
        """Whether the model can be used, as `GET /info` names it: loading, loaded or failed."""
        if self.loading:
            return "loading"
        return "failed" if self._loading_failed or self._task.done() else "loaded"

    @property
    def model(self) -> ModelT | None:
        """The model, once it is loaded."""
        loaded = self._loaded  # another one, from another thread, once the model is loaded again
        is_loaded = loaded.done() and not loaded.cancelled() and loaded.exception() is None
        return loaded.result() if is_loaded else None

    @property
    def busy(self) -> bool:
        """Whether a forward pass is running or an item is queued."""
        return not self._runner.pass_ended.is_set() or bool(self._queue.waiting)

    @property
    def is_dead(self) -> bool:
        """Whether a model that was loaded cannot be used again in this process."""
        return self._task.done() and self._was_loaded

    async def loaded(self) -> ModelT:
        """The model, once it is loaded. Raises NotReadyError, with the cause, when it cannot be."""
        try:
            return await asyncio.shield(self._loaded)
        except Exception as exc:
            raise self._not_loaded() from exc

    async def ready(self) -> ModelT:
        """The model, regardless of its load. Raises NotReadyError when it cannot be used."""
        self._check_usable()
        return await self.loaded()

    def loaded_model(self) -> ModelT:
        """The model. Raises NotReadyError, with the cause, when it cannot be used."""
        self._check_usable()
        model: ModelT = self._loaded.result()
        return model

    def reserve(self, caller: str, n_bytes: int) -> Reservation:
        """Room for one request of `caller`, with a body of `n_bytes`, that is not prepared yet.

        Raises:
            NotReadyError: the model is loading, could not be loaded, or was stopped.
            OverloadedError: too many items wait already, or too many seconds of the caller's work.
        """
        reservation = self._queue.callers.reservations.expect(caller, n_bytes)
        self._check_room(caller, reservation.items)
        self._check_usable()
        reservation.hold()
        return reservation

    def _check_room(self, caller: str, n: int) -> None:
        """Limit what waits in items, which bounds memory, and in seconds of work, which bounds the wait."""
        items, speed = self._queue.callers.items, self._runner.tokens_per_s
        wait_s = self._queue.callers.tokens_until_done(caller) / speed if speed else 0.0
        if items.total and (not items.allows(caller, n) or wait_s > self._max_waiting_s):
            raise OverloadedError(
                f"{items.total:.0f} items wait for the {self.label}, {items.used(caller):.0f} of this "
                f"caller, about {wait_s:.0f} s of work; at most {items.limit:.0f} items of all callers, and "
                f"{self._max_waiting_s:g} s for each, may",
                retry_after_s=wait_s / 2,  # half of it done makes room
                caller_class=items.class_of(caller),
            )

    def _check_usable(self) -> None:
        if self.loading:
            cause = f": {trouble}" if (trouble := self.trouble()) else ""
            raise NotReadyError(f"the {self.label} is loading{cause}", retry_after_s=2.0)
        if self._loading_failed:
            raise self._not_loaded()
        if self._task.done():
            raise self._stopped()

    def succeeded_within(self, seconds: float) -> bool:
        """Whether a pass of the last `seconds` proves that the model works; only for models behind a server."""
        return self._runner.succeeded_within(seconds)

    @property
    def is_remote(self) -> bool:
        """Whether the model is behind a server, not in this process."""
        return self._runner.is_remote

    def is_computing(self, besides: Hashable, less_than_s: float) -> bool:
        """Whether a forward pass of less than that, not overdue, computes items besides that of key `besides`."""
        return self._runner.is_computing(besides, less_than_s)

    async def next_pass_succeeds(self) -> bool:
        """Whether the forward pass that is running, or was the last one, succeeds; an item may make it fail."""
        await self._runner.pass_ended.wait()
        return not self._runner.last_failed

    async def enqueue(
        self, units: Sequence[Unit[InT]], caller: str = "", reservation: Reservation | None = None
    ) -> Submission[OutT]:
        """Queue all `units` of `caller`, regardless of the load, and release the `reservation` made for them.

        Many units are queued in parts, between which other tasks run. The submission must be closed. Raises
        NotReadyError when the worker has ended.
        """
        if self._task.done():
            self._check_usable()
        submission = self._queue.new_submission(len(units), caller)
        try:
            for start in range(0, len(units), _UNITS_AT_ONCE):
                if start:
                    await asyncio.sleep(0)
                self._queue.add(submission, units[start : start + _UNITS_AT_ONCE], start)
                self._arrived.set()
        except BaseException:
            submission.close()
            raise
        if reservation is not None:
            self._queue.callers.reservations.observe(reservation, len(units), sum(unit.n_tokens for unit in units))
        return submission

    # The task ---------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            model = await asyncio.shield(self._loaded)
            self._was_loaded = True
            try:
                await self._feed(model)
            except HungError:
                self._restart()

    async def _feed(self, model: ModelT) -> None:
        limits = self._limits(model)
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            await self._runner.run_queue(self._executor, model, limits)

    def _start_loading(self) -> None:
        self._executor = self._new_executor(f"model-{self.name}")
        self._loaded = self._executor.call(self._load)
        self._loaded.add_done_callback(self._log_loading)

    def _restart(self) -> None:
        self._executor.stop()  # abandon it; a thread that hangs cannot be ended
        if not self._restarts_left:
            raise ModelError(f"the {self.label} hung too often; restart the service")
        self._restarts_left -= 1
        logger.error("the %s hung; loading it again, %d restarts left", self.label, self._restarts_left)
        if self._metrics_hook is not None:
            self._metrics_hook.restarted(self.name)
        self._start_loading()
        self._arrived.set()

    @property
    def _loading_failed(self) -> bool:
        return self._loaded.done() and (self._loaded.cancelled() or self._loaded.exception() is not None)

    def _not_loaded(self) -> NotLoadedError:
        cause = None if self._loaded.cancelled() else self._loaded.exception()
        return NotLoadedError(f"the {self.label} could not be loaded: {cause}", retry_after_s=30.0)

    def _stopped(self) -> NotReadyError:
        return NotReadyError(f"the {self.label} was stopped", retry_after_s=2.0)

    def _end_submissions(self, task: asyncio.Task[None]) -> None:
        """Fail the open submissions of a worker that has ended."""
        if not task.cancelled() and (exc := task.exception()) is not None and not self._loading_failed:
            logger.error("the worker of the %s ended", self.label, exc_info=exc)
        self._queue.fail(self._stopped())

    def _log_loading(self, loaded: asyncio.Future[ModelT]) -> None:
        if loaded.cancelled():
            return
        if (exc := loaded.exception()) is not None:
            logger.error("the %s could not be loaded: %s", self.label, exc)
        else:
            logger.debug("the %s is loaded", self.label)
