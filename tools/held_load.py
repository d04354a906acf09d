"""Clients that must not notice when the service is restarted: what they ask again, and whether they lost anything.

    Crowd(asks)    ── a thread for each way to ask, over and over; a thread that ends early is a loss too
    Load(url)      ── threads as OpenRLHF posts: one rollout, a connection of its own, 5 tries 1 s apart, 180 s
                   └─ threads with our RewardClient: batches, its own retry policy
    every answer is compared with the reward that the same text had before

OpenRLHF's way is that of openrlhf 0.11 (`utils/agent.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from reward_client import Item, RetryPolicy, RewardClient, RewardError

__all__ = ["TOLERANCE", "Answer", "Ask", "Crowd", "Load", "difference"]

_TRIES = 5
_PAUSE_S = 1.0
_TIMEOUT_S = 180.0
_JOIN_S = 240.0
TOLERANCE = 1e-4
"""Rewards of one text differ by rounding, because texts that share a batch are padded."""
_OVERRIDES = {"max_response_tokens": 128}

_EXCHANGES = [
    ("Why is the sky blue?", "Air scatters blue light more than red light, so the sky looks blue."),
    ("What is dew?", "Water from the air that settles on cold surfaces in the night."),
    (
        "How do I keep bread fresh?",
        "Keep it in a paper bag or a bread box, and freeze what you cannot eat in two days.",
    ),
    ("Name a use of salt.", "It keeps food from going bad, and gives it taste."),
]


@dataclass(frozen=True)
class Answer:
    """The end of one request."""

    kind: str
    seconds: float
    tries: int
    problem: str | None


Ask = Callable[[], Answer]
"""Asks once and says how it ended."""


class Crowd:
    """Asks, each way in a thread of its own, until the `with` block ends; `answers` then has the end of each."""

    def __init__(self, asks: Sequence[Ask] = ()) -> None:
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._threads = [self._thread(ask) for ask in asks]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        deadline = time.monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hanging = sum(thread.is_alive() for thread in self._threads)
        if hanging:
            self._lose(_JOIN_S, f"{hanging} clients still wait after {_JOIN_S:.0f} s")

    @property
    def lost(self) -> list[Answer]:
        """Requests that got no reward, or another than before; clients that ended early."""
        return [answer for answer in self.answers if answer.problem is not None]

    def wait_for(self, n: int, timeout_s: float = 120.0) -> None:
        """Return when `n` more requests were answered; that they were not is a loss."""
        before, deadline = len(self.answers), time.monotonic() + timeout_s
        while len(self.answers) < before + n:
            if time.monotonic() > deadline:
                self._lose(timeout_s, f"{len(self.answers) - before} of {n} answers in {timeout_s:.0f} s")
                return
            self._stop.wait(0.05)

    def summary(self) -> str:
        """What happened, in a line."""
        longest = max((answer.seconds for answer in self.answers), default=0.0)
        return (
            f"{len(self.answers)} requests, {len(self.lost)} lost, {self.n_repeats} asked again by the client, "
            f"the longest held {longest:.1f} s"
        )

    @property
    def n_repeats(self) -> int:
        """How often a client asked again."""
        return sum(answer.tries - 1 for answer in self.answers)

    def _thread(self, ask: Ask) -> threading.Thread:
        return threading.Thread(target=self._repeat, args=(ask,), daemon=True)

    def _repeat(self, ask: Ask) -> None:
        try:
            while not self._stop.is_set():
                self.answers.append(ask())
        except BaseException as exc:
            self._lose(0.0, f"a client ended with {exc!r}")  # nobody else hears of what a thread raises
            raise

    def _lose(self, seconds: float, problem: str) -> None:
        self.answers.append(Answer("any", seconds, 1, problem))


class Load(Crowd):
    """Clients of a service in a container.

    Args:
        url: with the key as its password.
        rollouts: threads that post as OpenRLHF does.
        batches: threads with our client.
    """

    def __init__(self, url: str, rollouts: int = 12, batches: int = 2) -> None:
        super().__init__()
        self._url = url
        self._rollouts = rollouts
        self._batches = batches
        self._items = [Item(prompt=prompt, response=response) for prompt, response in _EXCHANGES]
        self._clients = ExitStack()

    def __enter__(self) -> Self:
        with RewardClient(self._url) as client:
            self._expected = client.score(self._items, recipe="rer", recipe_overrides=_OVERRIDES).rewards
        asks = [
            *(self._rollout(number) for number in range(self._rollouts)),
            *(self._batch(self._client()) for _ in range(self._batches)),
        ]
        self._threads = [self._thread(ask) for ask in asks]
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, exc, trace)
        self._clients.close()

    def _client(self) -> RewardClient:
        return self._clients.enter_context(RewardClient(self._url, retry=RetryPolicy(budget_s=_TIMEOUT_S)))

    def _rollout(self, number: int) -> Ask:
        index = number % len(_EXCHANGES)
        prompt, response = _EXCHANGES[index]
        rendered = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        body = {"query": [f"{rendered}{response}<|im_end|>"], "prompts": [rendered], "labels": [None]}
        parameters = {"recipe": "rer", **_OVERRIDES}
        address = httpx.URL(self._url).copy_with(path=f"/r/load-{number}/get_reward", params=parameters)
        return lambda: _post(str(address), body, self._expected[index : index + 1])

    def _batch(self, client: RewardClient) -> Ask:
        return lambda: _score(client, self._items, self._expected)


def _post(address: str, body: dict[str, object], expected: Sequence[float | None]) -> Answer:
    started, problem = time.monotonic(), "never tried"
    for tries in range(1, _TRIES + 1):
        try:
            response = httpx.post(address, json=body, timeout=_TIMEOUT_S)
            response.raise_for_status()
            wrong = difference(expected, response.json()["rewards"])
            return Answer("rollout", time.monotonic() - started, tries, wrong)
        except httpx.HTTPError as exc:
            problem = f"{type(exc).__name__}: {exc}"
            time.sleep(_PAUSE_S)
    return Answer("rollout", time.monotonic() - started, _TRIES, problem)


def _score(client: RewardClient, items: Sequence[Item], expected: Sequence[float | None]) -> Answer:
    started = time.monotonic()
    try:
        reply = client.score(items, recipe="rer", recipe_overrides=_OVERRIDES)
        problem = difference(expected, reply.rewards)
    except RewardError as exc:
        problem = str(exc)
    return Answer("batch", time.monotonic() - started, 1, problem)


def difference(expected: Sequence[float | None], got: Sequence[float | None]) -> str | None:
    """What is wrong with the rewards `got`: one too many or too few, none, or another; None when nothing is."""
    if len(expected) != len(got):
        return f"{len(got)} rewards for {len(expected)} items"
    for index, (before, reward) in enumerate(zip(expected, got, strict=True)):
        if before is None or reward is None or not abs(reward - before) <= TOLERANCE:
            return f"item {index}: reward {reward}, before {before}"
    return None
