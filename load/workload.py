"""The actions of the mixed load: each is drawn at random, and reports whether its outcome is the expected one.

openrlhf    one rollout, as OpenRLHF posts it         batch   1 to 64 items, gold on some
disconnect  the client closes while it waits          repeat  three requests with one Idempotency-Key, one reply
invalid     refused with 422                          known   the same reward as at the start
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

import aiohttp

from load.exchanges import generate, score_body
from load.posts import post_as_openrlhf
from tools.console import log
from tools.load_clients import reward_difference

__all__ = ["SHARES", "Workload"]

JSON_HEADERS = {"Content-Type": "application/json"}
"""Headers of requests whose body is bytes: aiohttp would declare another type, which the service refuses."""
SHARES = {"openrlhf": 50, "batch": 20, "invalid": 8, "disconnect": 8, "repeat": 6, "known": 8}
"""Frequency of each kind of action, in percent."""
_KNOWN = 64
"""Known items: each is scored so rarely that a small cache has evicted it in between."""
_MAX_BATCH = 64
_MAX_GOLD_BATCH = 8
_GOLD_BATCHES, _GOLD_POSTS = 0.2, 0.05
_MAX_DISCONNECT_S = 0.2
"""A client disconnects at a random time before this."""
_MAX_RECORDED = 10

_INVALID = [
    b"{",
    b'{"items": []}',
    b'{"items": [{"prompt": "Hi?"}]}',
    b'{"items": [{"prompt": "Hi?", "response": "Hi.", "recipe": "rer"}]}',
    b'{"items": [{"prompt": "Hi?", "response": "Hi."}], "recipe": "no-such-recipe"}',
    b'{"items": [{"prompt": "Hi?", "response": "Hi.", "query_type": "closed_ended"}]}',
]
"""Each is refused with 422."""


class Workload:
    """Performs actions and counts their outcomes.

    Args:
        url: of the service.
        session: shared by all actions but `disconnect`.
        kind: of its texts; another workload has different ones.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, kind: str) -> None:
        self.outcomes: Counter[str] = Counter()
        """By kind and outcome."""
        self.unexpected: list[str] = []
        """The first unexpected outcomes, described."""
        self.n_aborted = 0
        """Clients that disconnected before their response."""
        self.n_unexpected = 0
        self.n_known = 0
        """Known items scored."""
        self.known_wrong = 0
        self.seconds: list[float] = []
        """Duration of each action."""
        self._url = url
        self._session = session
        self._rng = random.Random(kind)
        self._exchanges = generate(kind)
        self._known_items = list(islice(generate("known"), _KNOWN))
        self._rewards: list[float] = []
        self._actions: dict[str, Callable[[], Awaitable[str | None]]] = {
            "openrlhf": self._openrlhf,
            "batch": self._batch,
            "invalid": self._invalid,
            "disconnect": self._disconnect,
            "repeat": self._repeat,
            "known": self._known,
        }

    async def score_known_items(self) -> None:
        """Request the rewards of the known items, which all later ones must match."""
        async with self._session.post(f"{self._url}/score", data=score_body(self._known_items)) as response:
            response.raise_for_status()
            self._rewards = (await response.json())["rewards"]

    async def act(self) -> None:
        """Perform one action, drawn at random."""
        (kind,) = self._rng.choices(list(SHARES), list(SHARES.values()))
        started = time.monotonic()
        try:
            problem = await self._actions[kind]()
        except (aiohttp.ClientError, TimeoutError) as exc:
            problem = f"{type(exc).__name__}: {exc}"
        self.seconds.append(time.monotonic() - started)
        self.outcomes[f"{kind}: {'as expected' if problem is None else 'unexpected'}"] += 1
        if problem is not None:
            self.record_unexpected(f"{kind}: {problem}")

    def record_unexpected(self, problem: str) -> None:
        """Count an unexpected outcome, and log the first ones."""
        self.n_unexpected += 1
        if len(self.unexpected) < _MAX_RECORDED:
            self.unexpected.append(problem)
            log(f"mixed: unexpected: {problem}")

    async def _openrlhf(self) -> str | None:
        gold = "?gold=true" if self._rng.random() < _GOLD_POSTS else ""
        post = await post_as_openrlhf(f"{self._url}/get_reward{gold}", next(self._exchanges))
        if post.retries:
            return f"{post.retries} retries {post.problem or ''}"
        return None if _are_rewards(post.rewards, 1) else f"rewards {post.rewards}"

    async def _batch(self) -> str | None:
        gold = self._rng.random() < _GOLD_BATCHES
        n = self._rng.randint(1, _MAX_GOLD_BATCH if gold else _MAX_BATCH)
        status, content = await self._score(score_body(list(islice(self._exchanges, n)), gold))
        if status != 200:
            return f"status {status}"
        reply = json.loads(content)
        golds = [result["gold_reward"] for result in reply["results"]]
        right = _are_rewards(reply["rewards"], n) and (not gold or _are_rewards(golds, n))
        return None if right else f"rewards {reply['rewards']}, gold {golds}"

    async def _invalid(self) -> str | None:
        status, _ = await self._score(self._rng.choice(_INVALID))
        return None if status == 422 else f"status {status} instead of 422"

    async def _disconnect(self) -> str | None:
        """Close the connection while the request is processed; a response before that is fine."""
        body = score_body(list(islice(self._exchanges, self._rng.randint(1, _MAX_BATCH))))
        async with aiohttp.ClientSession(headers=JSON_HEADERS) as session:
            try:
                async with asyncio.timeout(self._rng.uniform(0.0, _MAX_DISCONNECT_S)):
                    async with session.post(f"{self._url}/score", data=body) as response:
                        return None if response.status == 200 else f"status {response.status}"
            except TimeoutError:
                self.n_aborted += 1
                return None

    async def _repeat(self) -> str | None:
        """The same request twice at once and then again: the same bytes each time."""
        body, key = score_body(list(islice(self._exchanges, 4))), uuid.uuid4().hex
        replies = list(await asyncio.gather(self._score(body, key), self._score(body, key)))
        replies.append(await self._score(body, key))
        statuses = [status for status, _ in replies]
        if statuses != [200, 200, 200]:
            return f"statuses {statuses}"
        return None if len({content for _, content in replies}) == 1 else "different replies to one key"

    async def _known(self) -> str | None:
        index = self.n_known % _KNOWN
        self.n_known += 1
        exchange, right = self._known_items[index], self._rewards[index]
        if self.n_known // _KNOWN % 2:
            rewards = (await post_as_openrlhf(f"{self._url}/get_reward", exchange)).rewards
        else:
            status, content = await self._score(score_body([exchange]))
            rewards = json.loads(content)["rewards"] if status == 200 else []
        wrong = reward_difference([right], rewards)
        self.known_wrong += wrong is not None
        return wrong

    async def _score(self, body: bytes, key: str | None = None) -> tuple[int, bytes]:
        headers = {"Idempotency-Key": key} if key else {}
        async with self._session.post(f"{self._url}/score", data=body, headers=headers) as response:
            return response.status, await response.read()


def _are_rewards(values: Sequence[float | None], n: int) -> bool:
    return len(values) == n and all(value is not None and math.isfinite(value) for value in values)
