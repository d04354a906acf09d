"""Clients that must not notice when the service is restarted: what they ask again, and whether they lost anything.

    Load(url)      ── threads as OpenRLHF posts: one rollout, a connection of its own, 5 tries 1 s apart, 180 s
                   └─ threads with our RewardClient: batches, its own retry policy
    every answer is compared with the reward that the same text had before

OpenRLHF's way is that of openrlhf 0.11 (`utils/agent.py`).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from reward_client import Item, RetryPolicy, RewardClient, RewardError

__all__ = ["Answer", "Load"]

_TRIES = 5
_PAUSE_S = 1.0
_TIMEOUT_S = 180.0
_JOIN_S = 240.0
_TOLERANCE = 1e-4
"""Rewards of one text differ by rounding, because texts that share a batch are padded."""

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


@dataclass
class Load:
    """Requests until the `with` block ends; `answers` then has the end of each."""

    url: str
    """With the key as its password."""
    rollouts: int = 12
    """Threads that post as OpenRLHF does."""
    batches: int = 2
    """Threads with our client."""
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._items = [Item(prompt=prompt, response=response) for prompt, response in _EXCHANGES]
        self._stop = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._post_rollouts, args=(n,), daemon=True) for n in range(self.rollouts)),
            *(threading.Thread(target=self._score_batches, daemon=True) for _ in range(self.batches)),
        ]

    def __enter__(self) -> Self:
        with RewardClient(self.url) as client:
            scored = client.score(self._items, recipe="rer", recipe_overrides={"max_response_tokens": 128})
        self._expected = [float(reward or 0.0) for reward in scored.rewards]
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
            self.answers.append(Answer("any", _JOIN_S, 1, f"{hanging} clients still wait after {_JOIN_S:.0f} s"))

    @property
    def lost(self) -> list[Answer]:
        """Requests that got no reward, or another than before."""
        return [answer for answer in self.answers if answer.problem is not None]

    def wait_for(self, n: int, timeout_s: float = 60.0) -> None:
        """Return when `n` more requests were answered."""
        goal, deadline = len(self.answers) + n, time.monotonic() + timeout_s
        while len(self.answers) < goal and time.monotonic() < deadline:
            self._stop.wait(0.05)

    def summary(self) -> str:
        """What happened, in a line."""
        tries = sum(answer.tries - 1 for answer in self.answers)
        longest = max((answer.seconds for answer in self.answers), default=0.0)
        return (
            f"{len(self.answers)} requests, {len(self.lost)} lost, {tries} asked again by the client, "
            f"the longest held {longest:.1f} s"
        )

    def _post_rollouts(self, number: int) -> None:
        index = number % len(_EXCHANGES)
        prompt, response = _EXCHANGES[index]
        rendered = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        body = {"query": [f"{rendered}{response}<|im_end|>"], "prompts": [rendered], "labels": [None]}
        parameters = {"recipe": "rer", "max_response_tokens": 128}
        address = httpx.URL(self.url).copy_with(path=f"/r/load-{number}/get_reward", params=parameters)
        while not self._stop.is_set():
            self.answers.append(self._rollout(str(address), body, self._expected[index]))

    def _rollout(self, address: str, body: dict[str, object], expected: float) -> Answer:
        started, problem = time.monotonic(), "never tried"
        for tries in range(1, _TRIES + 1):
            try:
                response = httpx.post(address, json=body, timeout=_TIMEOUT_S)
                response.raise_for_status()
                wrong = _difference([expected], response.json()["rewards"])
                return Answer("rollout", time.monotonic() - started, tries, wrong)
            except httpx.HTTPError as exc:
                problem = f"{type(exc).__name__}: {exc}"
                time.sleep(_PAUSE_S)
        return Answer("rollout", time.monotonic() - started, _TRIES, problem)

    def _score_batches(self) -> None:
        with RewardClient(self.url, retry=RetryPolicy(budget_s=_TIMEOUT_S)) as client:
            while not self._stop.is_set():
                started, problem = time.monotonic(), None
                try:
                    reply = client.score(self._items, recipe="rer", recipe_overrides={"max_response_tokens": 128})
                    problem = _difference(self._expected, reply.rewards)
                except RewardError as exc:
                    problem = str(exc)
                self.answers.append(Answer("batch", time.monotonic() - started, 1, problem))


def _difference(expected: list[float], got: list[float | None]) -> str | None:
    same = len(expected) == len(got) and all(
        reward is not None and abs(reward - before) <= _TOLERANCE
        for before, reward in zip(expected, got, strict=True)
    )
    return None if same else f"rewards {got}, before {expected}"
