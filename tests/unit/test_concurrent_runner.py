"""A worker of a model behind a server: several calls at a time, cancelled when no request waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from reward_service.batching import BatchLimits, ConcurrentRunner, ModelWorker, TaskExecutor, Unit
from reward_service.errors import GoldUnavailableError, ModelError, NotReadyError
from tests.unit.test_model_worker import run


class Server:
    """Doubles numbers once the gate is open, fails for 13, and records what it is called with."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.cancelled: list[list[int]] = []
        self.gate = asyncio.Event()
        self.asked = asyncio.Condition()

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        async with self.asked:
            self.batches.append(list(items))
            self.asked.notify_all()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(items))
            raise
        if 13 in items:
            raise GoldUnavailableError("gone", 1)
        return [ModelError("odd") if item == 5 else 2 * item for item in items]

    async def has(self, n_batches: int) -> None:
        async with self.asked:
            await self.asked.wait_for(lambda: len(self.batches) >= n_batches)


Worker = ModelWorker[Server, int, int]


def worker(server: Server, *, max_items: int = 1, in_flight: int = 3, **options: Any) -> Worker:
    async def load() -> Server:
        return server

    return ModelWorker(
        "server",
        load,
        lambda model, items: model(items),
        limits=lambda _: BatchLimits(1000, max_items),
        max_waiting_items=100,
        executor=TaskExecutor,
        runner=partial(ConcurrentRunner, in_flight=in_flight),
        **options,
    )


async def submitted(w: Worker, *numbers: int) -> Any:
    await w.loaded()
    return await w.enqueue([Unit(number, number, 1) for number in numbers])


def test_so_many_batches_run_at_a_time_and_the_next_one_starts_when_any_ends() -> None:
    async def scenario() -> None:
        server = Server()
        async with worker(server) as w:
            submission = await submitted(w, 1, 2, 3, 4)
            await server.has(3)
            in_flight = list(server.batches)
            server.gate.set()
            await submission.wait()

            assert in_flight == [[1], [2], [3]]
            assert submission.outcomes == [2, 4, 6, 8]

    run(scenario)


def test_a_request_that_arrives_while_others_are_in_flight_starts_at_once() -> None:
    async def scenario() -> None:
        server = Server()
        async with worker(server) as w:
            first = await submitted(w, 1)
            await server.has(1)
            second = await submitted(w, 2)
            await server.has(2)
            server.gate.set()
            await asyncio.gather(first.wait(), second.wait())

    run(scenario)


def test_a_call_is_cancelled_when_no_request_waits_for_it_and_its_place_is_free() -> None:
    async def scenario() -> None:
        server = Server()
        async with worker(server, in_flight=1) as w:
            left, stays = await submitted(w, 1), await submitted(w, 2)
            await server.has(1)
            left.close()
            await server.has(2)
            server.gate.set()
            await stays.wait()

            assert server.cancelled == [[1]]
            assert stays.outcomes == [4]

    run(scenario)


def test_a_call_goes_on_while_another_request_waits_for_one_of_its_items() -> None:
    async def scenario() -> None:
        server = Server()
        async with worker(server, max_items=10, in_flight=1) as w:
            left = await submitted(w, 1, 2)
            await server.has(1)
            stays = await submitted(w, 2)
            left.close()
            server.gate.set()
            await stays.wait()

            assert (server.batches, server.cancelled) == ([[1, 2]], [])
            assert stays.outcomes == [4]

    run(scenario)


def test_an_item_whose_call_was_cancelled_is_asked_for_again() -> None:
    async def scenario() -> None:
        server = Server()
        async with worker(server) as w:
            left = await submitted(w, 1)
            await server.has(1)
            left.close()
            again = await submitted(w, 1)
            server.gate.set()
            await again.wait()

            assert again.outcomes == [2]
            assert server.batches == [[1], [1]]

    run(scenario)


def test_a_call_that_fails_is_not_run_in_halves_and_others_succeed() -> None:
    async def scenario() -> None:
        server = Server()
        server.gate.set()
        async with worker(server, max_items=2) as w:
            bad, good = await submitted(w, 12, 13), await submitted(w, 5, 6)
            await asyncio.gather(bad.wait(), good.wait())

            assert [type(outcome) for outcome in bad.outcomes] == [GoldUnavailableError] * 2
            assert isinstance(good.outcomes[0], ModelError)
            assert good.outcomes[1] == 12
            assert len(server.batches) == 2

    run(scenario)


def test_a_call_that_takes_too_long_fails_its_items_only() -> None:
    async def scenario() -> None:
        server = Server()
        async with worker(server, batch_timeout_s=0.05) as w:
            slow = await submitted(w, 1)
            await slow.wait()
            server.gate.set()
            quick = await submitted(w, 2)
            await quick.wait()

            assert "hung" in str(slow.outcomes[0])
            assert quick.outcomes == [4]

    run(scenario)


def test_requests_in_flight_fail_when_the_worker_stops() -> None:
    async def scenario() -> None:
        server = Server()
        async with worker(server) as w:
            submission = await submitted(w, 1)
            await server.has(1)

        with pytest.raises(NotReadyError):
            await submission.wait()
        assert server.cancelled == [[1]]

    run(scenario)


def test_a_success_is_proof_for_a_while_until_a_call_fails() -> None:
    async def scenario() -> None:
        server = Server()
        server.gate.set()
        async with worker(server) as w:
            assert not w.succeeded_within(60)
            await (await submitted(w, 1)).wait()
            assert w.succeeded_within(60)
            assert not w.succeeded_within(0)
            await (await submitted(w, 13)).wait()
            assert not w.succeeded_within(60)

    run(scenario)
