"""Several batches at a time, for a model whose calls are coroutines: one behind another server.

    queue ──take──▶ batch ──▶ a task, of at most `in_flight` ──▶ outcomes of its entries
                              cancelled when no submission wants any of them

A batch that fails is not run in halves: a model behind a server knows better which item is the cause. A call that
takes too long fails its batch only, because nothing hangs in this process.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from reward_service.batching.batch_runner import BatchRunner
from reward_service.batching.callers import BatchLimits
from reward_service.batching.executors import Executor
from reward_service.batching.queue import Entry
from reward_service.errors import ModelError

InT = TypeVar("InT")
OutT = TypeVar("OutT")
ModelT = TypeVar("ModelT")

logger = logging.getLogger(__name__)

_ABANDONED = ModelError("no request waits for this item any more")


class TaskExecutor:
    """An `Executor` of coroutine functions, which run at the same time as tasks."""

    def __init__(self, _: str) -> None:
        self._running: set[asyncio.Future[Any]] = set()

    def call(self, function: Callable[..., Any], *args: object) -> asyncio.Future[Any]:
        """Start `function(*args)`."""
        task: asyncio.Future[Any] = asyncio.ensure_future(function(*args))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def stop(self) -> None:
        """Cancel what runs."""
        for task in list(self._running):
            task.cancel()

    def join(self, timeout_s: float) -> None:
        """Nothing runs in another thread."""


class ConcurrentRunner(BatchRunner[ModelT, InT, OutT]):
    """Runs up to `in_flight` batches at a time; the other arguments are those of `BatchRunner`."""

    is_remote = True

    def __init__(self, *args: Any, in_flight: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slots = asyncio.Semaphore(in_flight)
        self._tasks: set[asyncio.Task[None]] = set()
        self._succeeded: float | None = None

    async def run_queue(self, executor: Executor, model: ModelT, limits: BatchLimits) -> None:
        """Start batches until the queue is empty; those that run then are not awaited."""
        while self.queue.waiting:
            await self._slots.acquire()
            batch = self.queue.take(limits)
            if not batch:
                self._slots.release()
                return
            self._backlogged = bool(self.queue.waiting)
            self._start(batch, self._run_one(executor, model, batch))

    def succeeded_within(self, seconds: float) -> bool:
        """Whether a batch succeeded in the last `seconds`, and none has failed since."""
        return (
            self._succeeded is not None and time.monotonic() - self._succeeded < seconds and not self.last_failed
        )

    def stop(self) -> None:
        """Cancel the batches that run."""
        for task in list(self._tasks):
            task.cancel()

    def _start(self, batch: list[Entry[InT, OutT]], work: Any) -> None:
        task = asyncio.create_task(work, name="remote-batch")
        self._tasks.add(task)
        self.pass_ended.clear()
        for entry in batch:
            entry.abandoned = partial(self._cancel_unwanted, batch, task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        self.pass_ended.set()  # wakes those that wait for any batch
        if self._tasks:
            self.pass_ended.clear()

    def _cancel_unwanted(self, batch: list[Entry[InT, OutT]], task: asyncio.Task[None]) -> None:
        if not task.done() and not any(entry.positions for entry in batch):
            self._distribute(batch, [_ABANDONED] * len(batch))  # so that a new submission does not join them
            task.cancel()

    async def _run_one(self, executor: Executor, model: ModelT, batch: list[Entry[InT, OutT]]) -> None:
        started = time.monotonic()
        submissions = self._start_submissions(batch, started)
        outcomes: Sequence[OutT | Exception]
        try:
            outcomes = await self._call_model(executor, model, [entry.unit.value for entry in batch])
        except Exception as exc:
            self._record_failure(type(exc).__name__)
            logger.debug("a call of the %s failed", self._label, exc_info=exc)
            outcomes = [self._reported(exc)] * len(batch)
        else:
            seconds = time.monotonic() - started
            for submission in submissions:
                submission.model_s += seconds
            if all(isinstance(outcome, Exception) for outcome in outcomes):  # perhaps not because of the items
                self._record_failure(type(outcomes[0]).__name__)
            else:
                self._succeeded, self.last_failed = time.monotonic(), False
                self._record_batch(batch, len(submissions), seconds / len(self._tasks))  # others ran beside it
        self._distribute(batch, outcomes)
