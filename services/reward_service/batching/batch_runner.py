"""Runs the batches of one model, and distributes their results to the submissions.

A batch consists of entries that are queued when the model becomes free, without a timer. The next batch starts
before the results of the last one are distributed, so that the model does not wait for that. A batch that fails is
run again in halves until the failing items are isolated, so that the other items get their results.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from reward_service.batching.callers import BatchLimits
from reward_service.batching.executors import Executor
from reward_service.batching.queue import BatchQueue, Entry, Submission
from reward_service.errors import GlassboxError, ModelError

InT = TypeVar("InT")
OutT = TypeVar("OutT")
ModelT = TypeVar("ModelT")

logger = logging.getLogger(__name__)

Run = Callable[[ModelT, Sequence[InT]], Sequence[OutT] | Awaitable[Sequence[OutT | Exception]]]
"""Computes the results of a batch, in order; one for coroutines may also return the errors of items."""


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Figures of one forward pass."""

    items: int
    tokens: int
    padded_tokens: int
    """Longest item × items."""
    requests: int
    seconds: float


class MetricsHook(Protocol):
    """Receives the events of a worker."""

    def batch_done(self, worker: str, batch: BatchStats) -> None:
        """A forward pass succeeded."""
        ...

    def batch_failed(self, worker: str, cause: str) -> None:
        """A forward pass raised or timed out."""
        ...

    def not_finite(self, worker: str) -> None:
        """A result was NaN or infinite."""
        ...

    def watch_queue(self, worker: str, queue: BatchQueue[Any, Any]) -> None:
        """The worker has a queue, whose size may be read at any time."""
        ...

    def waited(self, worker: str, seconds: float) -> None:
        """The first batch of a request started, `seconds` after its submission."""
        ...

    def restarted(self, worker: str) -> None:
        """The worker reloads a model that hung."""
        ...


class HungError(ModelError):
    """A forward pass did not return within the time limit."""


class BatchRunner(Generic[ModelT, InT, OutT]):
    """Runs queued entries in batches; the arguments are those of `ModelWorker`."""

    is_remote: ClassVar[bool] = False
    """Whether the model is behind a server, not in this process."""

    def __init__(
        self,
        name: str,
        run: Run[ModelT, InT, OutT],
        queue: BatchQueue[InT, OutT],
        *,
        batch_timeout_s: float,
        keep: Callable[[Hashable, OutT], None] | None,
        finite: Callable[[OutT], bool],
        metrics_hook: MetricsHook | None,
        label: str,
    ) -> None:
        self._name = name
        self._label = label
        self._run = run
        self._batch_timeout_s = batch_timeout_s
        self._keep = keep
        self._finite = finite
        self._metrics_hook = metrics_hook
        self._backlogged = False
        self._results: tuple[list[Entry[InT, OutT]], Sequence[OutT]] | None = None  # of the last batch
        self.queue = queue
        self.tokens_per_s: float | None = None
        """Measured speed; None before the first batch during which other entries were queued."""
        self.pass_ended = asyncio.Event()
        """Set while no forward pass runs."""
        self.pass_ended.set()
        self.last_failed = False
        """Whether the last forward pass failed."""
        self._pass: tuple[float, list[Entry[InT, OutT]]] | None = None
        """When the forward pass that runs began, and its entries."""
        if metrics_hook is not None:
            metrics_hook.watch_queue(name, self.queue)

    async def run_queue(self, executor: Executor, model: ModelT, limits: BatchLimits) -> None:
        """Run batches until the queue is empty. Raises HungError."""
        while batch := self.queue.take(limits):
            self._backlogged = bool(self.queue.waiting)
            await self._run_batch(executor, model, batch)
        self._distribute_results()

    def succeeded_within(self, _: float) -> bool:
        """Whether a recent pass proves that the model works; one in this process is tried each time."""
        return False

    def is_computing(self, besides: Hashable, less_than_s: float) -> bool:
        """Whether a pass runs that is not overdue, for less than that, with an item of a key besides `besides`."""
        if self._pass is None or time.monotonic() - self._pass[0] >= min(self._batch_timeout_s, less_than_s):
            return False
        return any(entry.unit.key != besides for entry in self._pass[1])

    def stop(self) -> None:
        """End what runs besides `run_queue`: nothing."""

    async def _run_batch(self, executor: Executor, model: ModelT, batch: list[Entry[InT, OutT]]) -> None:
        """Run `batch` in one call; if that fails, run its halves separately."""
        started = time.monotonic()
        submissions = self._start_submissions(batch, started)
        self._pass = started, batch
        try:
            results = await self._call_model(executor, model, [entry.unit.value for entry in batch])
        except HungError as exc:
            self._pass = None
            self._record_failure("hung")
            self._distribute(batch, [exc] * len(batch))
            raise
        except Exception as exc:  # noqa: BLE001 - a model may raise anything; the callers get it
            self._pass = None
            await self._isolate(executor, model, batch, exc)
        else:
            self.last_failed = False
            seconds = time.monotonic() - started
            for submission in submissions:
                submission.model_s += seconds
            self._record_batch(batch, len(submissions), seconds)
            self._pass, self._results = None, (batch, results)

    async def _call_model(self, executor: Executor, model: ModelT, items: list[InT]) -> Sequence[OutT]:
        self.pass_ended.clear()
        try:
            async with asyncio.timeout(self._batch_timeout_s) as limit:
                running = executor.call(self._run, model, items)
                self._distribute_results()
                results: Sequence[OutT] = await running
        except TimeoutError as exc:
            if not limit.expired():
                raise  # raised by the model
            raise HungError(f"the {self._label} hung: no result in {self._batch_timeout_s:g} s") from exc
        finally:
            self.pass_ended.set()
        if len(results) != len(items) or any(result is None for result in results):
            raise ModelError(f"the {self._label} gave {len(results)} results for {len(items)} items, or gave none")
        return results

    async def _isolate(
        self, executor: Executor, model: ModelT, batch: list[Entry[InT, OutT]], exc: Exception
    ) -> None:
        self._record_failure(type(exc).__name__)
        traceback.clear_frames(exc.__traceback__)  # frees the model's allocations, which the halves need
        if len(batch) > 1:
            middle = len(batch) // 2
            try:
                await self._run_batch(executor, model, batch[:middle])
            except HungError as hung:
                self._distribute(batch[middle:], [hung] * (len(batch) - middle))
                raise
            await self._run_batch(executor, model, batch[middle:])
            return
        logger.warning("the %s failed on an item of %d tokens", self._label, batch[0].unit.n_tokens, exc_info=exc)
        error = self._reported(exc)
        error.__cause__ = None if error is exc else exc
        self._distribute(batch, [error])

    def _record_failure(self, cause: str) -> None:
        self.last_failed = True
        if self._metrics_hook is not None:
            self._metrics_hook.batch_failed(self._name, cause)

    def _start_submissions(self, batch: list[Entry[InT, OutT]], now: float) -> set[Submission[OutT]]:
        """The open submissions with units in `batch`, marked as started."""
        submissions = {submission for entry in batch for submission in entry.positions}
        for submission in submissions:
            if submission.queue_s is None:
                submission.queue_s = now - submission.submitted
                if self._metrics_hook is not None:
                    self._metrics_hook.waited(self._name, submission.queue_s)
        return submissions

    def _distribute_results(self) -> None:
        """Distribute the results of the last successful batch, while the model runs the next one or is idle."""
        if self._results is not None:
            batch, results = self._results
            self._results = None
            self._distribute(batch, results)

    def _distribute(self, batch: list[Entry[InT, OutT]], outcomes: Sequence[OutT | Exception]) -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                self._record_result(entry.unit.key, outcome)
            self.queue.complete(entry, outcome)

    def _record_result(self, key: Hashable, outcome: OutT) -> None:
        """Count or cache a result. A failure here is logged; the callers still get their result."""
        try:
            if not self._finite(outcome):
                if self._metrics_hook is not None:
                    self._metrics_hook.not_finite(self._name)
            elif self._keep is not None:
                self._keep(key, outcome)
        except Exception:
            logger.exception("a result of the %s could not be cached or counted", self._label)

    def _reported(self, exc: Exception) -> GlassboxError:
        """`exc` as an error of the service, which names the model."""
        return exc if isinstance(exc, GlassboxError) else ModelError(f"the {self._label} failed: {exc}")

    def _record_batch(self, batch: list[Entry[InT, OutT]], requests: int, seconds: float) -> None:
        lengths = [entry.unit.n_tokens for entry in batch]
        if self._backlogged:  # a partial batch does not show the speed of full ones
            speed = sum(lengths) / max(seconds, 1e-6)
            self.tokens_per_s = 0.8 * self.tokens_per_s + 0.2 * speed if self.tokens_per_s else speed
        if self._metrics_hook is not None:
            stats = BatchStats(len(batch), sum(lengths), max(lengths) * len(batch), requests, seconds)
            self._metrics_hook.batch_done(self._name, stats)
