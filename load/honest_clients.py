"""Honest clients beside a hostile one: each sends at a fixed rate and records times and outcomes.

OpenRLHF      one rollout a request, as OpenRLHF posts it: a new connection, 5 tries 1 s apart
RewardClient  one item a request, with its own retry policy
health        GET /healthz and GET /readyz, as a container engine sends them
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from load.exchanges import Exchange, generate
from load.posts import post_as_openrlhf
from reward_client import AsyncRewardClient, RewardError
from tools.load_clients import reward_difference

__all__ = ["HonestClients", "Record"]

_POSTS_PER_S = 2.0
_SCORES_PER_S = 1.0
_HEALTH_PER_S = 4.0
_BATCH = 64
_MAX_PROBLEM_CHARS = 200


@dataclass
class Record:
    """Requests of one client."""

    seconds: list[float] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    """Why requests got no reward, or an error."""
    retries: int = 0
    rewards: list[tuple[Exchange, float | None]] = field(default_factory=list)


class HonestClients:
    """Clients of one service.

    Args:
        url: of the service, with their API key.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._exchanges = generate("honest")
        self.records: dict[str, Record] = {}

    async def run(self, seconds: float) -> dict[str, Record]:
        """Send for `seconds`; the records of this time."""
        self.records = {name: Record() for name in ("OpenRLHF", "RewardClient", "/healthz", "/readyz")}
        async with AsyncRewardClient(self._url) as client, aiohttp.ClientSession() as session:

            async def score(record: Record) -> None:
                exchange = next(self._exchanges)
                record.rewards.append((exchange, (await client.score([exchange.item])).rewards[0]))

            async def get(record: Record, path: str) -> None:
                async with session.get(f"{self._url}{path}", headers={"connection": "close"}) as response:
                    if response.status != 200:
                        record.problems[f"{response.status} {(await response.text())[:_MAX_PROBLEM_CHARS]}"] += 1

            clients: list[tuple[str, float, Callable[[Record], Awaitable[None]]]] = [
                ("OpenRLHF", _POSTS_PER_S, self._post),
                ("RewardClient", _SCORES_PER_S, score),
                ("/healthz", _HEALTH_PER_S, lambda record: get(record, "/healthz")),
                ("/readyz", _HEALTH_PER_S / 4, lambda record: get(record, "/readyz")),
            ]
            await asyncio.gather(*(self._at_rate(*one, seconds) for one in clients))
        return self.records

    async def wrong_rewards(self, records: dict[str, Record]) -> list[str]:
        """How the rewards of `records` differ from those of the same texts now."""
        given = [pair for record in records.values() for pair in record.rewards]
        problems = []
        async with AsyncRewardClient(self._url) as client:
            for start in range(0, len(given), _BATCH):
                exchanges, rewards = zip(*given[start : start + _BATCH], strict=True)
                reply = await client.score([exchange.item for exchange in exchanges])
                problems += [
                    problem
                    for now, then in zip(reply.rewards, rewards, strict=True)
                    if (problem := reward_difference([now], [then])) is not None
                ]
        return problems

    async def _post(self, record: Record) -> None:
        exchange = next(self._exchanges)
        post = await post_as_openrlhf(f"{self._url}/get_reward", exchange)
        record.retries += post.retries
        if post.problem is not None:
            record.problems[post.problem] += 1
        else:
            record.rewards.append((exchange, post.rewards[0] if len(post.rewards) == 1 else None))

    async def _at_rate(
        self, name: str, per_s: float, action: Callable[[Record], Awaitable[None]], seconds: float
    ) -> None:
        """Start an action at each of fixed times, whether or not the one before has ended."""
        record, began = self.records[name], time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                due = began + number / per_s
                if due >= began + seconds:
                    return
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(_timed(record, action))


async def _timed(record: Record, action: Callable[[Record], Awaitable[None]]) -> None:
    began = time.monotonic()
    try:
        await action(record)
    except (RewardError, aiohttp.ClientError, TimeoutError) as exc:
        record.problems[f"{type(exc).__name__}: {str(exc)[:_MAX_PROBLEM_CHARS]}"] += 1
    record.seconds.append(time.monotonic() - began)
