"""OpenRLHF's own client code, unmodified, requesting the reward of one rollout; model and tokenizer are fakes.

    SingleTurnAgentExecutor.execute ── "generates" a given response ── posts it, 5 tries 1 s apart

It reports its tries only in its log, so they are counted there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import torch
from openrlhf.utils import agent

from load.exchanges import Exchange
from tools.load_clients import CallResult, reward_difference

__all__ = ["RolloutClient", "count_tries"]

_MAX_LENGTH = 100_000
"""Tokens of prompt and response: long enough that no text is truncated."""
_SAMPLING = SimpleNamespace(max_tokens=1024, logprobs=None)


class _FailedTries(logging.Handler):
    """Counts, for each thread, the tries that OpenRLHF's client logs as failed."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if "error, please check" in record.getMessage():
            self.count[threading.get_ident()] += 1


_failed_tries = _FailedTries()


def count_tries() -> None:
    """Count the tries in OpenRLHF's log, and do not print it."""
    for handler in list(agent.logger.handlers):
        agent.logger.removeHandler(handler)
    agent.logger.addHandler(_failed_tries)


class _CharTokenizer:
    """The part of a tokenizer that the executor uses: one token per character."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        return {"input_ids": torch.tensor([[ord(char) for char in text]])}  # (1, T)

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class _OneResponse:
    """An engine that always generates the given response."""

    def __init__(self, response: str) -> None:
        self._tokens = [ord(char) for char in response]

    async def generate(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=self._tokens, finish_reason="stop", logprobs=None)]
        )


class RolloutClient:
    """Requests the reward of one rollout after the other, as a worker of OpenRLHF does.

    Args:
        url: of `/get_reward`.
        rollouts: exchanges and their rewards, used in turn.
    """

    def __init__(self, url: str, rollouts: list[tuple[Exchange, float]]) -> None:
        self._executor = agent.SingleTurnAgentExecutor(url)
        self._rollouts = rollouts
        self._turn = 0

    def __call__(self) -> CallResult:
        exchange, expected = self._rollouts[self._turn % len(self._rollouts)]
        self._turn += 1
        thread, started = threading.get_ident(), time.monotonic()
        failed_before = _failed_tries.count[thread]
        reward = asyncio.run(self._execute(exchange))["reward"]
        seconds = time.monotonic() - started
        failed = _failed_tries.count[thread] - failed_before
        problem = "no reward after all tries" if reward is None else reward_difference([expected], reward)
        return CallResult("OpenRLHF", seconds, 1 + failed, problem)

    async def _execute(self, exchange: Exchange) -> dict[str, Any]:
        output: dict[str, Any] = await self._executor.execute(
            exchange.rendered,
            None,
            _SAMPLING,
            _MAX_LENGTH,
            _CharTokenizer(),
            _OneResponse(f"{exchange.response}<|im_end|>"),
        )
        return output
