"""The executor of CPU-bound work: turns by caller, cancellation between steps, errors, the limit on what waits."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable

import pytest

from reward_service.batching import StepExecutor, Steps, complete
from reward_service.errors import OverloadedError


class Gate:
    """A step that runs until it is opened, so that a test decides what waits."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def steps(self) -> Steps[str]:
        self.entered.set()
        assert self.opened.wait(20)
        yield
        return "gate"


def noted(log: list[str], name: str, n_steps: int, seconds: float = 0.0) -> Steps[str]:
    """A job that writes its name at each step, and takes `seconds` of a thread for it."""
    for _ in range(n_steps):
        log.append(name)
        threading.Event().wait(seconds)
        yield
    return name


def with_executor(
    test: Callable[[StepExecutor], Awaitable[None]], threads: int = 1, max_waiting_s: float = 30
) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), StepExecutor(threads, max_waiting_s) as executor:
            await test(executor)

    asyncio.run(main())


async def behind_gate(executor: StepExecutor) -> tuple[Gate, asyncio.Task[str]]:
    """The only thread is in a step of another caller until the gate is opened."""
    gate = Gate()
    task = asyncio.create_task(executor.run("gate", gate.steps()))
    await asyncio.to_thread(gate.entered.wait, 20)
    return gate, task


def test_a_small_job_starts_before_the_waiting_large_jobs_of_another_caller() -> None:
    async def test(executor: StepExecutor) -> None:
        log: list[str] = []
        gate, first = await behind_gate(executor)
        large = [asyncio.create_task(executor.run("greedy", noted(log, "large", 9, 0.002))) for _ in range(5)]
        await asyncio.sleep(0)
        small = asyncio.create_task(executor.run("small", noted(log, "small", 1)))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, small, *large)

        assert log.index("small") <= 2  # turns of at most two steps each
        assert log.count("large") == 45

    with_executor(test)


def test_callers_get_the_same_time_however_many_jobs_they_have() -> None:
    async def test(executor: StepExecutor) -> None:
        log: list[str] = []
        gate, first = await behind_gate(executor)
        one = [asyncio.create_task(executor.run("one", noted(log, "one", 40, 0.002)))]
        many = [asyncio.create_task(executor.run("many", noted(log, "many", 40, 0.002))) for _ in range(8)]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *one, *many)
        until_one_ended = log[: len(log) - log[::-1].index("one")]

        assert 20 <= until_one_ended.count("many") <= 80

    with_executor(test)


def test_a_stream_of_new_jobs_does_not_stop_an_older_job_of_the_same_caller() -> None:
    async def test(executor: StepExecutor) -> None:
        log: list[str] = []
        old = asyncio.create_task(executor.run("caller", noted(log, "old", 20, 0.002)))
        while not old.done():
            await executor.run("caller", noted(log, "new", 1, 0.002))

        assert log.count("new") <= 3 * 20

    with_executor(test)


def test_a_cancelled_job_that_waits_ends_without_a_step() -> None:
    async def test(executor: StepExecutor) -> None:
        log: list[str] = []
        gate, first = await behind_gate(executor)
        waiting = asyncio.create_task(executor.run("caller", noted(log, "cancelled", 1), n_bytes=10**9))
        await asyncio.sleep(0)
        waiting.cancel()
        gate.opened.set()
        await first
        await executor.run("other", noted(log, "other", 1))

        assert log == ["other"]

    with_executor(test)


def test_a_cancelled_job_that_runs_ends_after_its_step() -> None:
    async def test(executor: StepExecutor) -> None:
        closed = threading.Event()
        gate = Gate()

        def steps() -> Steps[str]:
            try:
                yield from gate.steps()
                raise AssertionError("a step ran after the cancellation")
            finally:
                closed.set()

        running = asyncio.create_task(executor.run("caller", steps()))
        await asyncio.to_thread(gate.entered.wait, 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        gate.opened.set()

        assert await asyncio.to_thread(closed.wait, 20)

    with_executor(test)


@pytest.mark.parametrize("n_steps", [0, 3])
def test_an_error_of_a_step_reaches_the_task(n_steps: int) -> None:
    error = ValueError("of the job")

    def steps() -> Steps[None]:
        for _ in range(n_steps):
            yield
        raise error

    async def test(executor: StepExecutor) -> None:
        with pytest.raises(ValueError, match="of the job") as caught:
            await executor.run("caller", steps())
        assert caught.value is error
        assert await executor.run("caller", noted([], "next", 1)) == "next"

    with_executor(test)


def test_the_memory_of_a_job_that_fails_is_free_when_its_task_has_the_error() -> None:
    class Body(bytearray):
        """A body that a weak reference can watch."""

    watched: list[weakref.ref[Body]] = []

    def steps() -> Steps[None]:
        body = Body(1000)
        watched.append(weakref.ref(body))
        yield
        raise ValueError(f"wrong: {len(body)} bytes")

    async def test(executor: StepExecutor) -> None:
        with pytest.raises(ValueError, match="1000 bytes"):
            await executor.run("caller", steps(), n_bytes=1000)
        await executor.run("other", noted([], "other", 1))  # the thread has left the job

        assert watched[0]() is None

    gc.disable()
    try:
        with_executor(test)
    finally:
        gc.enable()


def test_a_caller_whose_waiting_work_is_too_long_is_refused_and_others_are_not() -> None:
    async def test(executor: StepExecutor) -> None:
        await executor.run("greedy", noted([], "measured", 5, 0.01), n_bytes=100_000)
        gate, first = await behind_gate(executor)
        waiting = asyncio.create_task(executor.run("greedy", noted([], "waits", 1), n_bytes=1_000_000))
        await asyncio.sleep(0)

        with pytest.raises(OverloadedError, match="being prepared"):
            executor.check("greedy")
        executor.check("small")
        gate.opened.set()
        await asyncio.gather(first, waiting)
        executor.check("greedy")

    with_executor(test, max_waiting_s=0.1)


def test_bodies_that_are_refused_at_once_do_not_make_preparation_look_fast() -> None:
    def wrong() -> Steps[None]:
        yield
        raise ValueError("wrong")

    async def test(executor: StepExecutor) -> None:
        await executor.run("greedy", noted([], "measured", 5, 0.01), n_bytes=100_000)
        for _ in range(20):
            with pytest.raises(ValueError, match="wrong"):
                await executor.run("hostile", wrong(), n_bytes=30_000_000)
        gate, first = await behind_gate(executor)
        waiting = asyncio.create_task(executor.run("greedy", noted([], "waits", 1), n_bytes=1_000_000))
        await asyncio.sleep(0)

        with pytest.raises(OverloadedError, match="being prepared"):
            executor.check("greedy")
        gate.opened.set()
        await asyncio.gather(first, waiting)

    with_executor(test, max_waiting_s=0.1)


def test_a_step_that_never_returns_stops_neither_other_jobs_nor_the_end() -> None:
    async def test(executor: StepExecutor) -> None:
        _, hung = await behind_gate(executor)

        assert await executor.run("other", noted([], "other", 3)) == "other"
        hung.cancel()

    with_executor(test, threads=2)


def test_complete_runs_all_steps_at_once() -> None:
    log: list[str] = []

    assert complete(noted(log, "result", 3)) == "result"
    assert log == ["result"] * 3
