"""Clients that keep sending requests while the service is disturbed, and a record of every call.

LoadClients(calls)     a thread per call, repeated until the block ends; a thread that ends early counts as a loss
ContainerClients(url)  threads that post as OpenRLHF does: one rollout, a new connection, 5 tries 1 s apart, 180 s
                       and threads with RewardClient: batches, its own retry policy

Every reward is compared with the reward of the same text before the disturbance. OpenRLHF's behaviour is that of
openrlhf 0.11 (`utils/agent.py`).
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

_TRIES = 5
_PAUSE_S = 1.0
_TIMEOUT_S = 180.0
_JOIN_S = 240.0
TOLERANCE = 1e-4
"""Rewards of one text differ by rounding, because texts in a batch are padded."""
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
class CallResult:
    """The outcome of one call, its retries included."""

    kind: str
    """Kind of the client."""
    seconds: float
    tries: int
    problem: str | None
    """Why the call is a loss; None for the right rewards."""


Call = Callable[[], CallResult]
"""Sends one request and reports its outcome."""


class LoadClients:
    """Threads that each repeat one call until the `with` block ends; `results` has every outcome."""

    def __init__(self, calls: Sequence[Call] = ()) -> None:
        self.results: list[CallResult] = []
        self._stop = threading.Event()
        self._threads = [self._thread(call) for call in calls]

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
            self._record_loss(_JOIN_S, f"{hanging} clients still wait after {_JOIN_S:.0f} s")

    @property
    def lost(self) -> list[CallResult]:
        """Calls without the right rewards, and clients that ended early."""
        return [result for result in self.results if result.problem is not None]

    @property
    def n_retries(self) -> int:
        """Retries of all calls."""
        return sum(result.tries - 1 for result in self.results)

    def wait_for(self, n: int, timeout_s: float = 120.0) -> None:
        """Return after `n` more results; a timeout is recorded as a loss."""
        before, deadline = len(self.results), time.monotonic() + timeout_s
        while len(self.results) < before + n:
            if time.monotonic() > deadline:
                self._record_loss(timeout_s, f"{len(self.results) - before} of {n} results in {timeout_s:.0f} s")
                return
            self._stop.wait(0.05)

    def summary(self) -> str:
        """Calls, losses, retries and the longest call, in one line."""
        longest = max((result.seconds for result in self.results), default=0.0)
        return (
            f"{len(self.results)} calls, {len(self.lost)} lost, {self.n_retries} retries, "
            f"the longest call {longest:.1f} s"
        )

    def _thread(self, call: Call) -> threading.Thread:
        return threading.Thread(target=self._repeat, args=(call,), daemon=True)

    def _repeat(self, call: Call) -> None:
        try:
            while not self._stop.is_set():
                self.results.append(call())
        except BaseException as exc:
            self._record_loss(0.0, f"a client ended with {exc!r}")  # an exception of a thread is not re-raised
            raise

    def _record_loss(self, seconds: float, problem: str) -> None:
        self.results.append(CallResult("any", seconds, 1, problem))


class ContainerClients(LoadClients):
    """Clients of a service in a container.

    Args:
        url: with the key as its password.
        rollouts: threads that post as OpenRLHF does.
        batches: threads with RewardClient.
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
        calls = [
            *(self._rollout(number) for number in range(self._rollouts)),
            *(self._batch(self._client()) for _ in range(self._batches)),
        ]
        self._threads = [self._thread(call) for call in calls]
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, exc, trace)
        self._clients.close()

    def _client(self) -> RewardClient:
        return self._clients.enter_context(RewardClient(self._url, retry=RetryPolicy(budget_s=_TIMEOUT_S)))

    def _rollout(self, number: int) -> Call:
        index = number % len(_EXCHANGES)
        prompt, response = _EXCHANGES[index]
        rendered = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        body = {"query": [f"{rendered}{response}<|im_end|>"], "prompts": [rendered], "labels": [None]}
        parameters = {"recipe": "rer", **_OVERRIDES}
        url = httpx.URL(self._url).copy_with(path=f"/r/load-{number}/get_reward", params=parameters)
        return lambda: _post(str(url), body, self._expected[index : index + 1])

    def _batch(self, client: RewardClient) -> Call:
        return lambda: _score(client, self._items, self._expected)


def _post(url: str, body: dict[str, object], expected: Sequence[float | None]) -> CallResult:
    started, problem = time.monotonic(), "never tried"
    for tries in range(1, _TRIES + 1):
        try:
            response = httpx.post(url, json=body, timeout=_TIMEOUT_S)
            response.raise_for_status()
            wrong = reward_difference(expected, response.json()["rewards"])
            return CallResult("rollout", time.monotonic() - started, tries, wrong)
        except httpx.HTTPError as exc:
            problem = f"{type(exc).__name__}: {exc}"
            time.sleep(_PAUSE_S)
    return CallResult("rollout", time.monotonic() - started, _TRIES, problem)


def _score(client: RewardClient, items: Sequence[Item], expected: Sequence[float | None]) -> CallResult:
    started = time.monotonic()
    try:
        reply = client.score(items, recipe="rer", recipe_overrides=_OVERRIDES)
        problem = reward_difference(expected, reply.rewards)
    except RewardError as exc:
        problem = str(exc)
    return CallResult("batch", time.monotonic() - started, 1, problem)


def reward_difference(expected: Sequence[float | None], got: Sequence[float | None]) -> str | None:
    """Describe how `got` differs from `expected`: in number, a missing reward, a value; None when it does not."""
    if len(expected) != len(got):
        return f"{len(got)} rewards for {len(expected)} items"
    for index, (before, reward) in enumerate(zip(expected, got, strict=True)):
        if before is None or reward is None or not abs(reward - before) <= TOLERANCE:
            return f"item {index}: reward {reward}, before {before}"
    return None
