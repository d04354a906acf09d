"""Batches across requests: what waits while a model is busy goes into its next batch.

    submit(items) ──▶ waiting ──▶ take(waiting, limit) ──▶ run(batch) in the model's own thread ──▶ each caller

One worker owns one model. There is no timer: when the model is free, a batch is whatever waits, oldest first.
A request is admitted whole or refused whole. When a batch fails, its requests are run one by one, so that each
caller gets either its results or its own error. A submission that was cancelled is dropped before its work.
`take` is pure: no clock, task or thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from reward_service.errors import GlassboxError, ModelError, NotReadyError, OverloadedError

__all__ = ["BatchObserver", "Done", "ModelWorker", "Submission", "take"]

InT = TypeVar("InT")
OutT = TypeVar("OutT")
ModelT = TypeVar("ModelT")

logger = logging.getLogger(__name__)


class BatchObserver(Protocol):
    """Is told of every batch, for metrics."""

    def batch_done(self, worker: str, items: int, requests: int, seconds: float) -> None:
        """A forward pass over `items` of `requests` took `seconds`."""
        ...

    def waiting(self, worker: str, items: int) -> None:
        """So many items wait now."""
        ...


@dataclass(frozen=True, slots=True)
class Done(Generic[OutT]):
    """Results of one submission, in order, and what it cost."""

    results: list[OutT]
    queue_s: float
    """Seconds from submission to the start of its batch."""
    model_s: float
    """Seconds of the forward pass that it shared."""


@dataclass(slots=True, eq=False)
class Submission(Generic[InT, OutT]):
    """Items of one request, waiting for their results."""

    items: Sequence[InT]
    future: asyncio.Future[Done[OutT]]
    submitted: float = field(default_factory=time.monotonic)


def take(waiting: deque[Submission[InT, OutT]], max_items: int) -> list[Submission[InT, OutT]]:
    """Remove the next batch from `waiting`: oldest first, whole requests, at least one, at most `max_items`."""
    batch: list[Submission[InT, OutT]] = []
    total = 0
    while waiting:
        if waiting[0].future.done():  # its caller has gone
            waiting.popleft()
            continue
        total += len(waiting[0].items)
        if batch and total > max_items:
            break
        batch.append(waiting.popleft())
    return batch


class ModelWorker(Generic[ModelT, InT, OutT]):
    """Loads a model in a thread of its own, and runs it there on batches of what many requests submit.

    Args:
        name: for logs and metrics.
        load: loads the model; called once, in the worker's thread.
        run: maps the model and a batch to its results, in order; called in the worker's thread only.
        max_batch_items: items per call of that function (one larger request still goes whole).
        max_waiting_items: items that may wait before new submissions are refused.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], ModelT],
        run: Callable[[ModelT, Sequence[InT]], Sequence[OutT]],
        *,
        max_batch_items: int,
        max_waiting_items: int,
        observer: BatchObserver | None = None,
    ) -> None:
        self.name = name
        self._load = load
        self._run = run
        self._max_batch_items = max_batch_items
        self._max_waiting_items = max_waiting_items
        self._observer = observer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"model-{name}")
        self._waiting: deque[Submission[InT, OutT]] = deque()
        self._arrived = asyncio.Event()
        self._rate = 100.0  # items a second, a guess until the first batch; see `_observe`

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[ModelT] = loop.run_in_executor(self._thread, self._load)
        self._loaded.add_done_callback(self._log_loading)
        self._task = asyncio.create_task(self._serve(), name=f"model-worker-{self.name}")
        self._task.add_done_callback(self._tell_waiting)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, self._loaded, return_exceptions=True)
        self._thread.shutdown(wait=True)

    @property
    def loading(self) -> bool:
        """Whether the model is still being loaded."""
        return not self._loaded.done()

    @property
    def model(self) -> ModelT | None:
        """The model, once it is loaded."""
        return self._loaded.result() if self._loaded.done() and not self._loading_failed else None

    async def loaded(self) -> ModelT:
        """The model, once it is loaded. Raises NotReadyError, with the cause, when it cannot be."""
        try:
            return await asyncio.shield(self._loaded)
        except Exception as exc:
            raise NotReadyError(f"the {self.name} model could not be loaded: {exc}", retry_after_s=30.0) from exc

    async def submit(self, items: Sequence[InT]) -> Done[OutT]:
        """Results for `items`, in order.

        Raises:
            NotReadyError: the model is loading or could not be loaded.
            OverloadedError: too many items wait already; nothing of this request was queued.
            ModelError: the model failed on these items.
        """
        if self.loading:
            raise NotReadyError(f"the {self.name} model is loading", retry_after_s=2.0)
        await self.loaded()
        if self._task.done():
            raise self._stopped()
        if not items:
            return Done([], 0.0, 0.0)
        self._admit(len(items))
        future: asyncio.Future[Done[OutT]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Submission(items, future))
        self._arrived.set()
        return await future

    def _stopped(self) -> NotReadyError:
        return NotReadyError(f"the {self.name} model was stopped", retry_after_s=2.0)

    def _tell_waiting(self, task: asyncio.Task[None]) -> None:
        """Nobody waits for a worker that has ended."""
        if not task.cancelled() and (exc := task.exception()) is not None and not self._loading_failed:
            logger.error("the worker of the %s model ended", self.name, exc_info=exc)
        for submission in self._waiting:
            if not submission.future.done():
                submission.future.set_exception(self._stopped())
        self._waiting.clear()

    @property
    def _loading_failed(self) -> bool:
        return self._loaded.done() and (self._loaded.cancelled() or self._loaded.exception() is not None)

    def _admit(self, n: int) -> None:
        waiting = sum(len(submission.items) for submission in self._waiting if not submission.future.done())
        if waiting and waiting + n > self._max_waiting_items:
            raise OverloadedError(
                f"{waiting} items wait for the {self.name} model, more than {self._max_waiting_items} are refused",
                retry_after_s=max(1.0, waiting / self._rate),
            )

    async def _serve(self) -> None:
        model = await asyncio.shield(self._loaded)
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := take(self._waiting, self._max_batch_items):
                try:
                    await self._run_batch(model, batch)
                except BaseException:  # stopped, or a bug: `_tell_waiting` answers whoever is left
                    self._waiting.extendleft(reversed(batch))
                    raise

    async def _run_batch(self, model: ModelT, batch: list[Submission[InT, OutT]]) -> None:
        """Run `batch` in one call; when that fails and it holds several requests, each on its own."""
        started = time.monotonic()
        items = [item for submission in batch for item in submission.items]
        try:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self._thread, self._checked_run, model, items)
        except Exception as exc:  # whatever a model raises is told to whoever waits for it
            if len(batch) > 1:
                for submission in batch:
                    await self._run_batch(model, [submission])
            else:
                logger.warning("the %s model failed on %d items", self.name, len(items), exc_info=exc)
                _fail(batch[0], exc, self.name)
        else:
            self._observe(len(items), len(batch), time.monotonic() - started)
            _hand_out(batch, results, started, time.monotonic() - started)

    def _checked_run(self, model: ModelT, items: Sequence[InT]) -> Sequence[OutT]:
        results = self._run(model, items)
        if len(results) != len(items):
            raise ModelError(f"the {self.name} model gave {len(results)} results for {len(items)} items")
        return results

    def _observe(self, items: int, requests: int, seconds: float) -> None:
        self._rate = 0.8 * self._rate + 0.2 * items / max(seconds, 1e-6)
        if self._observer is not None:
            self._observer.batch_done(self.name, items, requests, seconds)
            self._observer.waiting(self.name, sum(len(waiting.items) for waiting in self._waiting))

    def _log_loading(self, loaded: asyncio.Future[ModelT]) -> None:
        if loaded.cancelled():
            return
        if (exc := loaded.exception()) is not None:
            logger.error("the %s model could not be loaded: %s", self.name, exc)
        else:
            logger.info("the %s model is loaded", self.name)


def _hand_out(batch: list[Submission[InT, OutT]], results: Sequence[OutT], started: float, model_s: float) -> None:
    start = 0
    for submission in batch:
        end = start + len(submission.items)
        if not submission.future.done():
            done = Done(list(results[start:end]), started - submission.submitted, model_s)
            submission.future.set_result(done)
        start = end


def _fail(submission: Submission[InT, OutT], exc: Exception, name: str) -> None:
    if submission.future.done():
        return
    error = exc if isinstance(exc, GlassboxError) else ModelError(f"the {name} model failed: {exc}")
    if error is not exc:
        error.__cause__ = exc
    submission.future.set_exception(error)
