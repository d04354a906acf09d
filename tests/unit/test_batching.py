"""Batching across requests: who shares a batch, who waits, and who is told what."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from reward_service.batching import ModelWorker, Submission, take
from reward_service.errors import ConfigurationError, ModelError, NotReadyError, OverloadedError


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), timeout=30))


class Doubler:
    """Doubles numbers; refuses 13; can be held busy. Remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.set()
        assert self.gate.wait(timeout=20)
        if 13 in items:
            raise ValueError("13 is not for doubling")
        return [2 * item for item in items]


def worker(model: Doubler, **limits: int) -> ModelWorker[Doubler, int, int]:
    return ModelWorker(
        "doubler",
        lambda: model,
        lambda m, items: m(items),
        max_batch_items=limits.get("max_batch_items", 100),
        max_waiting_items=limits.get("max_waiting_items", 100),
    )


async def busy(model: Doubler, w: ModelWorker[Doubler, int, int]) -> asyncio.Task[Any]:
    """Start a first batch that stays in the model until the gate opens."""
    await w.loaded()
    model.gate.clear()
    task = asyncio.create_task(w.submit([0]))
    await asyncio.to_thread(model.started.wait, 20)
    return task


def submit_all(w: ModelWorker[Doubler, int, int], *requests: list[int]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(w.submit(request)) for request in requests]


def test_take_removes_the_oldest_whole_requests_up_to_the_limit() -> None:
    loop = asyncio.new_event_loop()
    waiting = deque(Submission(items, loop.create_future()) for items in ([1, 2], [3], [4, 5, 6], [7]))

    assert [s.items for s in take(waiting, 4)] == [[1, 2], [3]]
    assert [s.items for s in take(waiting, 1)] == [[4, 5, 6]]
    assert [s.items for s in waiting] == [[7]]
    loop.close()


def test_take_passes_over_callers_that_have_gone() -> None:
    loop = asyncio.new_event_loop()
    gone, here = loop.create_future(), loop.create_future()
    gone.cancel()
    waiting = deque([Submission([1], gone), Submission([2], here)])

    assert [s.items for s in take(waiting, 10)] == [[2]]
    loop.close()


def test_requests_that_wait_share_one_batch_and_each_gets_its_own_results() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model) as w:
            first = await busy(model, w)
            others = submit_all(w, [1, 2], [3], [4])
            await asyncio.sleep(0)
            model.gate.set()
            results = [(await task).results for task in (first, *others)]

        assert results == [[0], [2, 4], [6], [8]]
        assert model.batches == [[0], [1, 2, 3, 4]]

    run(scenario)


def test_a_request_that_fails_does_not_touch_its_neighbours() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model) as w:
            first = await busy(model, w)
            good, bad, also_good = submit_all(w, [1], [13], [2])
            await asyncio.sleep(0)
            model.gate.set()
            await first

            with pytest.raises(ModelError, match="13 is not for doubling"):
                await bad
            assert (await good).results == [2]
            assert (await also_good).results == [4]

    run(scenario)


def test_a_request_is_refused_whole_when_too_much_waits_and_says_when_to_come_back() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model, max_waiting_items=3) as w:
            first = await busy(model, w)
            waiting = submit_all(w, [1, 2])
            await asyncio.sleep(0)

            with pytest.raises(OverloadedError) as caught:
                await w.submit([3, 4])

            model.gate.set()
            assert caught.value.retry_after_s > 0
            assert (await first).results == [0]
            assert (await waiting[0]).results == [2, 4]
        assert model.batches == [[0], [1, 2]]

    run(scenario)


def test_the_work_of_a_caller_that_has_gone_is_not_done() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with worker(model) as w:
            first = await busy(model, w)
            gone, here = submit_all(w, [1], [2])
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            model.gate.set()
            await asyncio.gather(first, here)

        assert model.batches == [[0], [2]]

    run(scenario)


def test_whoever_waits_when_the_service_stops_is_told() -> None:
    async def scenario() -> None:
        model = Doubler()
        w = worker(model)
        await w.__aenter__()
        first = await busy(model, w)
        [waiting] = submit_all(w, [1])
        await asyncio.sleep(0)
        stopping = asyncio.create_task(w.__aexit__(None, None, None))
        await asyncio.sleep(0)
        model.gate.set()
        await stopping

        for task in (first, waiting):
            with pytest.raises(NotReadyError, match="stopped"):
                await task

    run(scenario)


def test_nobody_is_left_waiting_when_the_service_stops_while_a_failed_batch_is_run_again() -> None:
    async def scenario() -> None:
        model = Doubler()
        w = worker(model)
        await w.__aenter__()
        first = await busy(model, w)
        others = submit_all(w, [13], [1], [2])
        await asyncio.sleep(0)
        model.gate.set()
        await first
        await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)  # 13, run alone, has failed
        await w.__aexit__(None, None, None)

        assert len(await asyncio.gather(*others, return_exceptions=True)) == 3
        with pytest.raises(NotReadyError, match="stopped"):
            await w.submit([5])

    run(scenario)


@pytest.mark.parametrize("error", [ConfigurationError("weights are missing"), RuntimeError("weights are missing")])
def test_a_model_that_cannot_be_loaded_is_an_error_with_its_cause_for_every_caller(error: Exception) -> None:
    def load() -> Doubler:
        raise error

    async def scenario() -> None:
        async with ModelWorker("broken", load, lambda m, i: m(i), max_batch_items=1, max_waiting_items=1) as w:
            for _ in range(2):
                with pytest.raises(NotReadyError, match="weights are missing"):
                    await w.loaded()

    run(scenario)


def test_a_model_that_answers_too_little_is_an_error_not_a_shift() -> None:
    async def scenario() -> None:
        short: ModelWorker[None, int, int] = ModelWorker(
            "short", lambda: None, lambda _, items: list(items)[1:], max_batch_items=9, max_waiting_items=9
        )
        async with short as w:
            await w.loaded()
            with pytest.raises(ModelError, match="1 results for 2 items"):
                await w.submit([1, 2])

    run(scenario)
