"""What is done in mixed load: one thing after the other, drawn by chance, and whether it ended as it must.

post ── OpenRLHF's       batch ── 1 to 64 items, gold on some      bad ── refused with 422
hang up ── mid-flight    repeat ── one Idempotency-Key, one reply  known ── the reward it had at the beginning
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

from load.posts import post_as_openrlhf
from load.work import fresh, score_body
from tools.demo import say
from tools.held_load import difference

__all__ = ["SHARES", "Mixture"]

SHARES = {"post": 50, "batch": 20, "bad": 8, "hang up": 8, "repeat": 6, "known": 8}
"""What is done, and how often of a hundred times."""
_KNOWN = 64
"""Known items: each is asked for so seldom that a small cache has forgotten it in between."""
_MAX_BATCH = 64
_MAX_GOLD_BATCH = 8
_GOLD_BATCHES, _GOLD_POSTS = 0.2, 0.05
_HANG_UP_S = 0.2
"""A caller hangs up at some moment before."""
_MAX_NOTED = 10

_BAD = [
    b"{",
    b'{"items": []}',
    b'{"items": [{"prompt": "Hi?"}]}',
    b'{"items": [{"prompt": "Hi?", "response": "Hi.", "recipe": "rer"}]}',
    b'{"items": [{"prompt": "Hi?", "response": "Hi."}], "recipe": "no-such-recipe"}',
    b'{"items": [{"prompt": "Hi?", "response": "Hi.", "query_type": "closed_ended"}]}',
]
"""Each is refused with 422."""


class Mixture:
    """Does one thing after the other, and counts how they ended.

    Args:
        url: of the service.
        session: for what is not done on a connection of its own.
        kind: of its texts; another mixture has others.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, kind: str) -> None:
        self.ends: Counter[str] = Counter()
        """By kind and end."""
        self.unexpected: list[str] = []
        """What should not have happened; the first few in words."""
        self.n_hung_up = 0
        """Callers who had gone before their answer came."""
        self.n_unexpected = 0
        self.known_wrong = 0
        self.seconds: list[float] = []
        self._url = url
        self._session = session
        self._draw = random.Random(kind)
        self._fresh = fresh(kind)
        self._n_known = 0
        self._known_items = list(islice(fresh("known"), _KNOWN))
        self._rewards: list[float] = []
        self._kinds: dict[str, Callable[[], Awaitable[str | None]]] = {
            "post": self._post,
            "batch": self._batch,
            "bad": self._bad,
            "hang up": self._hang_up,
            "repeat": self._repeat,
            "known": self._known,
        }

    async def learn(self) -> None:
        """Ask for the rewards of the known items, which all later ones must match."""
        async with self._session.post(f"{self._url}/score", data=score_body(self._known_items)) as reply:
            reply.raise_for_status()
            self._rewards = (await reply.json())["rewards"]

    @property
    def n_known(self) -> int:
        """How often known items were asked for."""
        return self._n_known

    async def act(self) -> None:
        """Do something."""
        (kind,) = self._draw.choices(list(SHARES), list(SHARES.values()))
        started = time.monotonic()
        try:
            problem = await self._kinds[kind]()
        except (aiohttp.ClientError, TimeoutError) as exc:
            problem = f"{type(exc).__name__}: {exc}"
        self.seconds.append(time.monotonic() - started)
        self.ends[f"{kind}: {'as expected' if problem is None else 'unexpected'}"] += 1
        if problem is not None:
            self.note(f"{kind}: {problem}")

    def note(self, problem: str) -> None:
        """Something unexpected happened."""
        self.n_unexpected += 1
        if len(self.unexpected) < _MAX_NOTED:
            self.unexpected.append(problem)
            say(f"mixed: unexpected: {problem}")

    async def _post(self) -> str | None:
        gold = "?gold=true" if self._draw.random() < _GOLD_POSTS else ""
        post = await post_as_openrlhf(f"{self._url}/get_reward{gold}", next(self._fresh))
        if post.retries:
            return f"{post.retries} retries {post.problem or ''}"
        return None if _are_rewards(post.rewards, 1) else f"rewards {post.rewards}"

    async def _batch(self) -> str | None:
        gold = self._draw.random() < _GOLD_BATCHES
        n = self._draw.randint(1, _MAX_GOLD_BATCH if gold else _MAX_BATCH)
        status, content = await self._score(score_body(list(islice(self._fresh, n)), gold))
        if status != 200:
            return f"status {status}"
        reply = json.loads(content)
        golds = [result["gold_reward"] for result in reply["results"]]
        right = _are_rewards(reply["rewards"], n) and (not gold or _are_rewards(golds, n))
        return None if right else f"rewards {reply['rewards']}, gold {golds}"

    async def _bad(self) -> str | None:
        status, _ = await self._score(self._draw.choice(_BAD))
        return None if status == 422 else f"status {status} instead of 422"

    async def _hang_up(self) -> str | None:
        """Close the connection while the answer is being made; that it came before is no error."""
        body = score_body(list(islice(self._fresh, self._draw.randint(1, _MAX_BATCH))))
        async with aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(self._draw.uniform(0.0, _HANG_UP_S)):
                    async with session.post(f"{self._url}/score", data=body) as reply:
                        return None if reply.status == 200 else f"status {reply.status}"
            except TimeoutError:
                self.n_hung_up += 1
                return None

    async def _repeat(self) -> str | None:
        """The same question twice at a time and once more: the same bytes each time."""
        body, key = score_body(list(islice(self._fresh, 4))), uuid.uuid4().hex
        replies = list(await asyncio.gather(self._score(body, key), self._score(body, key)))
        replies.append(await self._score(body, key))
        statuses = [status for status, _ in replies]
        if statuses != [200, 200, 200]:
            return f"statuses {statuses}"
        return None if len({content for _, content in replies}) == 1 else "three different replies to one key"

    async def _known(self) -> str | None:
        index = self._n_known % _KNOWN
        self._n_known += 1
        exchange, right = self._known_items[index], self._rewards[index]
        if self._n_known // _KNOWN % 2:
            rewards = (await post_as_openrlhf(f"{self._url}/get_reward", exchange)).rewards
        else:
            status, content = await self._score(score_body([exchange]))
            rewards = json.loads(content)["rewards"] if status == 200 else []
        wrong = difference([right], rewards)
        self.known_wrong += wrong is not None
        return wrong

    async def _score(self, body: bytes, key: str | None = None) -> tuple[int, bytes]:
        headers = {"Idempotency-Key": key} if key else {}
        async with self._session.post(f"{self._url}/score", data=body, headers=headers) as reply:
            return reply.status, await reply.read()


def _are_rewards(values: Sequence[float | None], n: int) -> bool:
    return len(values) == n and all(value is not None and math.isfinite(value) for value in values)
