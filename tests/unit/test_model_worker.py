"""A model's worker: sharing of batches, limits, and the outcomes when the model fails or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.batching import BatchLimits, BatchQueue, ModelWorker, Reservation, Submission, Unit
from reward_service.errors import ConfigurationError, ModelError, NotReadyError, OverloadedError
from tests.generated_cases import cases


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), timeout=30))


class Doubler:
    """Doubles numbers, raises for 13, can be blocked, and records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.set()
        assert self.gate.wait(timeout=20)
        if 13 in items:
            raise ValueError("13 cannot be doubled")
        return [2 * item for item in items]


Worker = ModelWorker[Doubler, int, int]


def worker(model: Doubler, load: Callable[[], Doubler] | None = None, **options: Any) -> Worker:
    limits = BatchLimits(max_tokens=options.pop("max_batch_tokens", 1000), max_items=100)
    options.setdefault("max_waiting_items", 100)
    return ModelWorker("doubler", load or (lambda: model), lambda m, i: m(i), limits=lambda _: limits, **options)


def units(numbers: Sequence[int]) -> list[Unit[int]]:
    return [Unit(number, number, 1) for number in numbers]


async def submit(w: Worker, numbers: Sequence[int], caller: str = "") -> Submission[int]:
    """The submission of a request, once it has all outcomes. Raises what `reserve` raises."""
    reservation = w.reserve(caller, 999 * len(numbers)) if numbers else None
    submission = await w.enqueue(units(numbers), caller, reservation)
    try:
        await submission.wait()
    finally:
        submission.close()
    return submission


async def busy(model: Doubler, w: Worker) -> asyncio.Task[Any]:
    """Start a first batch that stays in the model until the gate opens."""
    await w.loaded()
    model.gate.clear()
    task = asyncio.create_task(submit(w, [0]))
    await asyncio.to_thread(model.started.wait, 20)
    return task


async def submit_all(w: Worker, *requests: list[int]) -> list[asyncio.Task[Any]]:
    """Let each request get as far as the queue."""
    tasks = [asyncio.create_task(submit(w, request)) for request in requests]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def outcomes(task: asyncio.Task[Any]) -> list[Any]:
    return list((await task).outcomes)


def test_queued_requests_share_one_batch_and_each_gets_its_outcomes() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model) as w:
            first = await busy(model, w)
            others = await submit_all(w, [1, 2], [3], [4])
            model.gate.set()

            assert [await outcomes(task) for task in (first, *others)] == [[0], [2, 4], [6], [8]]
        assert model.batches == [[0], [1, 2, 3, 4]]

    run(scenario)


def test_the_next_batch_starts_before_the_results_of_the_last_one_are_distributed() -> None:
    async def scenario() -> None:
        model, second = Doubler(), threading.Event()
        started_before: dict[Any, bool] = {}

        def call(m: Doubler, items: Sequence[int]) -> list[int]:
            if items == [1]:
                second.set()
            return m(items)

        def keep(key: Hashable, _: int) -> None:
            started_before.setdefault(key, second.wait(timeout=5))

        w: Worker = ModelWorker(
            "doubler",
            lambda: model,
            call,
            limits=lambda _: BatchLimits(100, 100),
            max_waiting_items=9,
            keep=keep,
        )
        async with w:
            first = await busy(model, w)
            [waiting] = await submit_all(w, [1])
            model.gate.set()

            assert [await outcomes(first), await outcomes(waiting)] == [[0], [2]]
        assert started_before[0]

    run(scenario)


def test_a_result_that_cannot_be_cached_still_reaches_its_caller() -> None:
    def keep(key: Hashable, _: int) -> None:
        if key == 2:
            raise MemoryError("the cache is full")

    async def scenario() -> None:
        model = Doubler()
        async with worker(model, keep=keep) as w:
            first = await busy(model, w)
            waiting = await submit_all(w, [1, 2, 3], [4])
            model.gate.set()

            assert [await outcomes(task) for task in (first, *waiting)] == [[0], [2, 4, 6], [8]]
            [again] = await submit_all(w, [2])
            assert await outcomes(again) == [4]
        assert model.batches == [[0], [1, 2, 3, 4], [2]]

    run(scenario)


def test_a_failing_item_is_isolated_by_halving_and_the_others_get_their_results() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model) as w:
            first = await busy(model, w)
            mixed, good = await submit_all(w, [1, 13, 2], [3, 4])
            model.gate.set()
            await first
            [one, error, two] = await outcomes(mixed)

            assert (one, two) == (2, 4)
            assert isinstance(error, ModelError)
            assert "13 cannot be doubled" in str(error)
            assert await outcomes(good) == [6, 8]

    run(scenario)


def test_the_same_item_of_two_requests_is_computed_once() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model) as w:
            first = await busy(model, w)
            one, two = await submit_all(w, [5, 6], [6, 7])
            model.gate.set()
            await first

            assert (await outcomes(one), await outcomes(two)) == ([10, 12], [12, 14])
            assert ((await one).shared, (await two).shared) == (0, 1)
        assert sorted(n for batch in model.batches for n in batch) == [0, 5, 6, 7]

    run(scenario)


def test_a_shared_item_is_computed_for_the_second_request_when_the_first_is_cancelled() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model) as w:
            first = await busy(model, w)
            cancelled, stays = await submit_all(w, [5, 6], [6])
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            model.gate.set()
            await first

            assert await outcomes(stays) == [12]
        assert model.batches == [[0], [6]]

    run(scenario)


def test_results_are_kept_also_when_the_caller_was_cancelled() -> None:
    async def scenario() -> None:
        model = Doubler()
        kept: dict[Any, int] = {}
        async with worker(model, keep=kept.__setitem__) as w:
            first = await busy(model, w)
            [next_one] = await submit_all(w, [13, 4])
            first.cancel()
            model.gate.set()
            await next_one

        assert kept == {0: 0, 4: 8}

    run(scenario)


def test_a_request_above_the_item_limit_is_rejected_as_a_whole_with_a_retry_time() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model, max_waiting_items=3) as w:
            first = await busy(model, w)
            [waiting] = await submit_all(w, [1, 2])

            with pytest.raises(OverloadedError) as caught:
                await submit(w, [3, 4])

            assert await w.ready() is model, "an overloaded model is still usable"
            model.gate.set()
            assert caught.value.retry_after_s > 0
            assert await outcomes(first) == [0]
            assert await outcomes(waiting) == [2, 4]
        assert model.batches == [[0], [1, 2]]

    run(scenario)


def test_a_request_is_rejected_when_the_queued_work_takes_too_long_at_the_measured_speed() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model, max_waiting_s=1e-9, max_batch_tokens=1) as w:
            first = await busy(model, w)
            [waiting] = await submit_all(w, [1, 2])  # admitted: no speed is known yet
            model.gate.set()
            await asyncio.gather(first, waiting)  # 2 waited while 1 was computed, which gives the speed
            second = await busy(model, w)
            [more] = await submit_all(w, [3])  # nothing waits, so any request is admitted

            with pytest.raises(OverloadedError) as caught:
                await submit(w, [4])

            model.gate.set()
            await asyncio.gather(second, more)
            assert caught.value.retry_after_s == 1, "a moment's work"

    run(scenario)


# Callers and reservations --------------------------------------------------------------------------------------


class QueueWatch:
    """A metrics hook that keeps the queue."""

    def __init__(self) -> None:
        self.queue: BatchQueue[Any, Any] = BatchQueue()

    def watch_queue(self, worker: str, queue: BatchQueue[Any, Any]) -> None:
        self.queue = queue

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None

    def used(self, caller: str) -> float:
        """Items of `caller` that wait or are expected."""
        return self.queue.callers.items.used(caller)


def reserved(w: Worker, caller: str, n_bytes: int = 100) -> list[Reservation]:
    """Reservations of `caller` until it is refused, at most a thousand."""
    found: list[Reservation] = []
    with contextlib.suppress(OverloadedError):
        while len(found) < 1000:
            found.append(w.reserve(caller, n_bytes))
    return found


def test_a_caller_is_refused_for_its_own_work_and_another_is_not() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model, max_waiting_s=1e-9, max_batch_tokens=1) as w:
            first = await busy(model, w)
            greedy = asyncio.create_task(submit(w, [1, 2], "greedy"))
            await asyncio.sleep(0)
            model.gate.set()
            await asyncio.gather(first, greedy)  # gives the speed
            second = await busy(model, w)
            greedy = asyncio.create_task(submit(w, [3, 4], "greedy"))
            await asyncio.sleep(0)

            with pytest.raises(OverloadedError, match="2 items wait for the doubler model, 2 of this caller"):
                w.reserve("greedy", 100)
            room = w.reserve("other", 100)
            with pytest.raises(OverloadedError, match="1 of this caller"):
                w.reserve("other", 100)  # its first request is in preparation, and counts
            room.release()
            w.reserve("other", 100).release()

            model.gate.set()
            await asyncio.gather(second, greedy)

    run(scenario)


def test_requests_in_preparation_count_and_leave_room_for_another_caller() -> None:
    async def scenario() -> None:
        async with worker(Doubler(), max_waiting_items=90) as w:
            await w.loaded()
            greedy = reserved(w, "greedy")
            assert 70 <= len(greedy) <= 80
            other = reserved(w, "other")
            assert len(other) >= 5
            for caller, caller_class in (("greedy", "largest"), ("other", "other")):
                with pytest.raises(OverloadedError) as refused:
                    w.reserve(caller, 100)
                assert refused.value.caller_class == caller_class
            for reservation in [*greedy, *other]:
                reservation.release()
            assert len(reserved(w, "greedy")) == len(greedy)

    run(scenario)


def test_a_request_in_preparation_counts_like_earlier_ones_of_its_caller() -> None:
    async def scenario() -> None:
        watch = QueueWatch()
        async with worker(Doubler(), max_waiting_items=10_000, metrics_hook=watch) as w:
            await w.loaded()
            for start in range(0, 5000, 500):
                room = w.reserve("many short texts", 10_000)
                submission = await w.enqueue(units(range(start, start + 500)), "many short texts", room)
                await submission.wait()
                submission.close()

            rooms = [w.reserve("many short texts", 10_000), w.reserve("another", 10_000)]

            assert 450 <= watch.used("many short texts") <= 500
            assert watch.used("another") == 10, "what one caller sends does not change the estimate for another"
            for room in rooms:
                room.release()
            assert watch.queue.callers.items.total == 0

    run(scenario)


@given(
    requests=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 5000), st.integers(0, 9), st.sampled_from(range(5))),
        max_size=12,
    )
)
@cases(60)
def test_nothing_stays_counted_whatever_happens_to_the_requests(
    requests: list[tuple[str, int, int, int]],
) -> None:
    """Each request is dropped, dropped twice, cancelled while it is queued, closed, or completed."""

    async def request(w: Worker, first: int, caller: str, n_bytes: int, n: int, end: int) -> None:
        room = w.reserve(caller, n_bytes)
        try:
            await asyncio.sleep(0)
            if end > 1:
                submission = await w.enqueue(units(range(first, first + n)), caller, room)
                if end > 3:
                    await submission.wait()
                submission.close()
        finally:
            room.release()
            room.release()

    async def scenario() -> None:
        watch = QueueWatch()
        async with worker(Doubler(), max_waiting_items=10_000, metrics_hook=watch) as w:
            await w.loaded()
            tasks = [
                asyncio.create_task(request(w, 50 + 4 * number, *fields)) for number, fields in enumerate(requests)
            ]
            await asyncio.sleep(0)
            for task, (*_, end) in zip(tasks, requests, strict=True):
                if end == 2:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            callers = watch.queue.callers

            assert (callers.items.total, callers.items.callers, callers.reservations.tokens.total) == (0, 0, 0)
            assert (len(callers), len(watch.queue.waiting), watch.queue.open) == (0, 0, set())

    run(scenario)


def test_a_refused_request_leaves_nothing_counted() -> None:
    async def scenario() -> None:
        watch = QueueWatch()
        async with worker(Doubler(), max_waiting_items=1, metrics_hook=watch) as w:
            with pytest.raises(NotReadyError, match="loading"):
                w.reserve("early", 100)
            await w.loaded()
            room = w.reserve("first", 100)
            with pytest.raises(OverloadedError):
                w.reserve("second", 100)
            room.release()
            assert watch.queue.callers.items.total == watch.queue.callers.reservations.tokens.total == 0

    run(scenario)


def test_the_allocations_of_a_failed_batch_are_freed_before_its_halves_run() -> None:
    class Activations:
        """Represents memory that the model allocated."""

    allocated: list[weakref.ref[Activations]] = []
    free: list[bool] = []

    def call(_: Doubler, items: Sequence[int]) -> list[int]:
        free.append(all(ref() is None for ref in allocated))
        activations = Activations()
        allocated.append(weakref.ref(activations))
        if len(items) > 1:
            raise MemoryError("too many at once")
        return [2 * item for item in items]

    async def scenario() -> None:
        limits = BatchLimits(max_tokens=100, max_items=100)
        async with ModelWorker("m", Doubler, call, limits=lambda _: limits, max_waiting_items=9) as w:
            await w.loaded()
            done = await submit(w, [1, 2, 3, 4])
            assert done.outcomes == [2, 4, 6, 8]

    run(scenario)
    assert free == [True] * 7


def test_waiting_requests_fail_when_the_worker_stops() -> None:
    async def scenario() -> None:
        model = Doubler()
        w = worker(model)
        await w.__aenter__()
        first = await busy(model, w)
        [waiting] = await submit_all(w, [1])
        stopping = asyncio.create_task(w.__aexit__(None, None, None))
        model.gate.set()
        await stopping

        for task in (first, waiting):
            with pytest.raises(NotReadyError, match="stopped"):
                await task
        with pytest.raises(NotReadyError, match="stopped"):
            await submit(w, [5])

    run(scenario)


@pytest.mark.parametrize("error", [ConfigurationError("weights are missing"), RuntimeError("weights are missing")])
def test_a_model_that_cannot_be_loaded_is_an_error_with_its_cause_for_every_caller(error: Exception) -> None:
    def load() -> Doubler:
        raise error

    async def scenario() -> None:
        async with worker(Doubler(), load) as w:
            for _ in range(2):
                with pytest.raises(NotReadyError, match="weights are missing"):
                    await w.loaded()

    run(scenario)


def test_too_few_results_are_an_error() -> None:
    async def scenario() -> None:
        model = Doubler()
        short: Worker = ModelWorker(
            "short",
            lambda: model,
            lambda _, items: list(items)[1:],
            limits=lambda _: BatchLimits(100, 100),
            max_waiting_items=9,
        )
        async with short as w:
            await w.loaded()
            done = await submit(w, [1, 2])

        assert [type(outcome) for outcome in done.outcomes] == [ModelError, ModelError]
        assert "0 results for 1 items" in str(done.outcomes[0])

    run(scenario)


def test_a_model_that_hangs_is_loaded_again_and_only_its_batch_fails() -> None:
    async def scenario() -> None:
        stuck, fresh = Doubler(), Doubler()
        models = iter([stuck, fresh])
        async with worker(stuck, lambda: next(models), batch_timeout_s=0.2) as w:
            first = await busy(stuck, w)
            [waiting] = await submit_all(w, [1])
            [error] = await outcomes(first)

            assert isinstance(error, ModelError)
            assert "hung" in str(error)
            assert await outcomes(waiting) == [2]
            assert fresh.batches == [[1]]
            stuck.gate.set()

    run(scenario)


def test_every_item_gets_an_outcome_when_half_of_a_failed_batch_hangs() -> None:
    async def scenario() -> None:
        model, fresh, release = Doubler(), Doubler(), threading.Event()

        def fails_then_hangs(m: Doubler, items: Sequence[int]) -> list[int]:
            if m is model and items == [1]:
                release.wait(timeout=20)
            return m(items)

        models = iter([model, fresh])
        w: Worker = ModelWorker(
            "doubler",
            lambda: next(models),
            fails_then_hangs,
            limits=lambda _: BatchLimits(100, 100),
            max_waiting_items=9,
            batch_timeout_s=0.2,
        )
        async with w:
            await w.loaded()
            done = await submit(w, [1, 13])
            release.set()

            assert ["hung" in str(outcome) for outcome in done.outcomes] == [True, True]

    run(scenario)


def test_a_model_that_hangs_too_often_ends_the_worker_and_fails_all_requests() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model, batch_timeout_s=0.2, max_restarts=0) as w:
            first = await busy(model, w)
            [waiting] = await submit_all(w, [1])
            await outcomes(first)

            with pytest.raises(NotReadyError, match="stopped"):
                await waiting
            with pytest.raises(NotReadyError, match="stopped"):
                await w.ready()
            model.gate.set()

    run(scenario)


def test_a_worker_is_dead_when_its_model_hung_and_cannot_be_loaded_again_not_when_it_was_never_loaded() -> None:
    def fail() -> Doubler:
        raise RuntimeError("out of memory")

    async def scenario() -> None:
        stuck = Doubler()
        loads = iter([lambda: stuck, fail])
        async with worker(stuck, lambda: next(loads)(), batch_timeout_s=0.2) as w:
            await outcomes(await busy(stuck, w))
            with pytest.raises(NotReadyError, match="out of memory"):
                await w.loaded()
            for _ in range(20):  # the worker's task sees it a few iterations of the event loop later
                await asyncio.sleep(0)
            assert w.is_dead
            stuck.gate.set()
        async with worker(stuck, fail) as w:
            with pytest.raises(NotReadyError, match="out of memory"):
                await w.loaded()
            await asyncio.sleep(0)
            assert not w.is_dead

    run(scenario)


class CoroutineExecutor:
    """Runs each call as a coroutine, as an executor for a remote model does."""

    def __init__(self, name: str) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def call(self, function: Callable[..., Any], *args: object) -> asyncio.Future[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(function(*args))
        self._tasks.append(task)
        return task

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def join(self, timeout_s: float) -> None:
        """Cancelled tasks end with the event loop."""


def test_a_worker_runs_on_an_executor_with_several_requests_in_flight() -> None:
    in_flight, most = 0, 0

    async def remote_double(item: int) -> int:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0)
        in_flight -= 1
        return 2 * item

    async def load() -> str:
        return "a connection"

    async def call(_: str, items: Sequence[int]) -> list[int]:
        return await asyncio.gather(*map(remote_double, items))

    async def scenario() -> None:
        remote: ModelWorker[Any, int, int] = ModelWorker(
            "remote",
            load,
            call,
            limits=lambda _: BatchLimits(100, 100),
            max_waiting_items=9,
            executor=CoroutineExecutor,
        )
        async with remote as w:
            await w.loaded()
            assert (await submit(w, [1, 2, 3])).outcomes == [2, 4, 6]
        assert most == 3

    run(scenario)
