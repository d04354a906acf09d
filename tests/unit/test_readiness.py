"""What the readiness probe notes about the server of a gold model, and when it forgets it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reward_service.batching import BatchLimits, ConcurrentRunner, ModelWorker, TaskExecutor, Unit
from reward_service.errors import GoldUnavailableError
from reward_service.http.readiness import Readiness
from reward_service.models.protocols import Exchange, GoldModel, Tokens
from reward_service.scoring.job import GoldWorker
from tests.doubles import LengthGold


@dataclass
class Served(LengthGold):
    """A gold model behind a server, which may have stopped; its tokenizer may be broken."""

    is_gone: bool = False
    is_broken: bool = False

    def tokenize(self, exchange: Exchange) -> Tokens:
        if self.is_broken:
            raise RuntimeError("no tokenizer")
        return super().tokenize(exchange)

    async def scores(self, batch: Sequence[Tokens]) -> Sequence[float | Exception]:
        if self.is_gone:
            raise GoldUnavailableError("the server is gone", 1)
        return self.score(batch)


def worker(model: Served) -> GoldWorker:
    async def load() -> GoldModel:
        return model

    return ModelWorker(
        "gold",
        load,
        lambda _, batch: model.scores(batch),
        limits=lambda _: BatchLimits(1000, 1),
        max_waiting_items=100,
        executor=TaskExecutor,
        runner=partial(ConcurrentRunner, in_flight=1),
    )


def test_what_was_wrong_with_a_server_is_forgotten_once_it_has_answered_a_request() -> None:
    async def scenario() -> None:
        model = Served(is_gone=True)
        async with worker(model) as gold:
            readiness = Readiness(None, [gold], timeout_s=5, max_pass_s=60, proven_s=0)
            await gold.loaded()
            await readiness.probe()
            before = readiness.notices(gold)
            model.is_gone = False
            submission = await gold.enqueue([Unit(b"1", Tokens([1]), 1)])
            await submission.wait()
            submission.close()
            after = readiness.notices(gold)
            readiness.stop()

        assert "the server is gone" in before[0]
        assert after == []

    asyncio.run(scenario())


def test_an_unexpected_error_of_the_check_is_a_notice() -> None:
    async def scenario() -> None:
        async with worker(Served(is_broken=True)) as gold:
            readiness = Readiness(None, [gold], timeout_s=5, max_pass_s=60, proven_s=0)
            await gold.loaded()
            await readiness.probe()
            [notice] = readiness.notices(gold)
            readiness.stop()

        assert "no tokenizer" in notice

    asyncio.run(scenario())
