"""Scores of samples for an adapter: one client for each process, and a reward or the cause for every sample.

    samples ─▶ items ─▶ RewardClient.score ─▶ Scored(reward, features, …)
               │            └ rejected with errors of single items ─▶ the others again
               └ a sample that is no valid item ─▶ Scored(reward=None, error=…)

The client retries and waits up to `deadline_s`. An error of the service raises RewardError. A sample that cannot
be scored has no reward; `rewards` raises for it, for frameworks that cannot leave a sample out. Rewards are
finite: the client rejects a reply with NaN or infinity.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any
from weakref import WeakKeyDictionary

from reward_client.adapters.samples import Sample
from reward_client.adapters.settings import AdapterSettings
from reward_client.client import AsyncRewardClient, RewardClient
from reward_client.errors import RewardError, RewardRejectedError
from reward_client.wire import Item, ItemResult

MAX_REPORTED = 5
"""Samples without a reward that an error lists; it counts the others."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The reward of one sample, or why it has none."""

    reward: float | None
    error: str | None = None
    features: dict[str, float | None] = field(default_factory=dict)
    """By name, the same names for every sample of a recipe; None where a feature does not apply."""
    gold_reward: float | None = None
    flags: tuple[str, ...] = ()

    def applicable_features(self) -> dict[str, float]:
        """Features that apply to the sample: for frameworks that average a name over the samples that have it."""
        found = {name: value for name, value in self.features.items() if value is not None}
        return found if self.gold_reward is None else found | {"gold_reward": self.gold_reward}

    def all_features(self) -> dict[str, float]:
        """Every feature of the recipe, 0 where it does not apply: for frameworks that need the same names."""
        found = {name: 0.0 if value is None else value for name, value in self.features.items()}
        return found if self.gold_reward is None else found | {"gold_reward": self.gold_reward}


def rewards(scored: Sequence[Scored]) -> list[float]:
    """The rewards, for frameworks that cannot leave a sample out. Raises RewardError when a sample has none."""
    missing = [f"sample {i}: {one.error}" for i, one in enumerate(scored) if one.reward is None]
    if missing:
        more = [f"and {len(missing) - MAX_REPORTED} more"] if len(missing) > MAX_REPORTED else []
        causes = "; ".join([*missing[:MAX_REPORTED], *more])
        raise RewardError(f"{len(missing)} of {len(scored)} samples cannot be scored: {causes}")
    return [one.reward for one in scored if one.reward is not None]


class Scorer:
    """Scores samples with the settings of an adapter. Threads, event loops and forked processes may share it."""

    def __init__(self, settings: AdapterSettings | None = None, **given: Any) -> None:
        self.settings = settings or AdapterSettings.load(**given)
        self._pid = 0
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncRewardClient] = WeakKeyDictionary()

    def score(self, samples: Sequence[Sample]) -> list[Scored]:
        """The scores of `samples`, in order. Raises RewardError when the service does not answer."""
        batch = _Batch(samples, self.settings.deadline_s)
        while batch.items:
            try:
                reply = self._client().score(batch.items, **self._options(batch))
            except RewardRejectedError as exc:
                batch.leave_out(exc)
            else:
                batch.add(reply.results)
        return batch.scored

    async def score_async(self, samples: Sequence[Sample]) -> list[Scored]:
        """As `score`, without blocking the event loop."""
        batch = _Batch(samples, self.settings.deadline_s)
        while batch.items:
            try:
                reply = await self._async_client().score(batch.items, **self._options(batch))
            except RewardRejectedError as exc:
                batch.leave_out(exc)
            else:
                batch.add(reply.results)
        return batch.scored

    def _options(self, batch: _Batch) -> dict[str, Any]:
        return self.settings.options | {"on_item_error": "report", "deadline_s": batch.left_s}

    def close(self) -> None:
        """Close the connections of the synchronous client, if there are any."""
        if "_sync_client" in self.__dict__:
            self._sync_client.close()

    def _client(self) -> RewardClient:
        self._forget_parent()
        return self._sync_client

    @cached_property
    def _sync_client(self) -> RewardClient:
        return RewardClient(self.settings.url, **self.settings.client_options)

    def _async_client(self) -> AsyncRewardClient:
        """The client of the running event loop."""
        self._forget_parent()
        loop = asyncio.get_running_loop()
        for closed in [one for one in self._async_clients if one.is_closed()]:
            del self._async_clients[closed]  # its client refers to it, so that it would never be collected
        client = self._async_clients.get(loop)
        if client is None:
            client = AsyncRewardClient(self.settings.url, **self.settings.client_options)
            self._async_clients[loop] = client
        return client

    def _forget_parent(self) -> None:
        """Drop the clients of the process that this one was forked from: their sockets are shared with it."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.__dict__.pop("_sync_client", None)
            self._async_clients = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Without clients, for frameworks that send the reward function to other processes."""
        return {"settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]


@cache
def scorer_of(settings: AdapterSettings) -> Scorer:
    """The scorer of `settings`: one for each process, for functions that a framework calls without state."""
    return Scorer(settings)


class _Batch:
    """Samples of one call: those still to be sent, and the scores found."""

    def __init__(self, samples: Sequence[Sample], deadline_s: float) -> None:
        self.left_s = deadline_s
        """Seconds for the next request."""
        self._ends_at_s = time.monotonic() + deadline_s
        self._scored: list[Scored | None] = [None] * len(samples)
        self._items: dict[int, Item] = {}
        for index, sample in enumerate(samples):
            try:
                self._items[index] = sample.item()
            except ValueError as exc:
                self._scored[index] = Scored(None, str(exc))

    @property
    def items(self) -> list[Item]:
        """What has to be sent."""
        return list(self._items.values())

    @property
    def scored(self) -> list[Scored]:
        """The scores, in the order of the samples."""
        return [one for one in self._scored if one is not None]

    def add(self, results: Sequence[ItemResult]) -> None:
        """Take the results of all items that were sent."""
        for index, result in zip(self._items, results, strict=True):
            error = None if result.error is None else f"{result.error.field}: {result.error.message}"
            self._scored[index] = Scored(
                result.reward, error, dict(result.features), result.gold_reward, tuple(result.flags)
            )
        self._items = {}

    def leave_out(self, rejection: RewardRejectedError) -> None:
        """Leave out the items that `rejection` names. Raises it when it names none, as for a wrong recipe."""
        sent = list(self._items)
        if not rejection.errors_by_item:
            raise rejection
        for item, error in rejection.errors_by_item.items():
            self._scored[sent[item]] = Scored(None, f"{error.field}: {error.message}")
            del self._items[sent[item]]
        self.left_s = max(0.0, self._ends_at_s - time.monotonic())
