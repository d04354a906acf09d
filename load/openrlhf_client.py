"""OpenRLHF's own client code, unmodified, asking for one rollout's reward; model and tokenizer are stand-ins.

    SingleTurnAgentExecutor.execute ── "generates" the response that it is given ── posts it, 5 tries 1 s apart

It says of its tries only in its log, so they are counted there.
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

from load.work import Exchange
from tools.held_load import Answer, difference

__all__ = ["RolloutAsk", "count_tries"]

_MAX_LENGTH = 100_000
"""Of prompt and response, in tokens: nothing is cut."""
_SAMPLING = SimpleNamespace(max_tokens=1024, logprobs=None)


class _Tries(logging.Handler):
    """Counts, for each thread, the tries that its client logs as failed."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: Counter[int] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if "error, please check" in record.getMessage():
            self.failed[threading.get_ident()] += 1


_tries = _Tries()


def count_tries() -> None:
    """Let the client's log tell its tries, and nothing else: it would print each of them."""
    for handler in list(agent.logger.handlers):
        agent.logger.removeHandler(handler)
    agent.logger.addHandler(_tries)


class _CharTokenizer:
    """As much of a tokenizer as the executor uses: one token a character."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        return {"input_ids": torch.tensor([[ord(char) for char in text]])}  # (1, T)

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class _OneResponse:
    """An engine that generates what it is told to."""

    def __init__(self, response: str) -> None:
        self._tokens = [ord(char) for char in response]

    async def generate(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=self._tokens, finish_reason="stop", logprobs=None)]
        )


class RolloutAsk:
    """Asks for one rollout after the other, as a worker of OpenRLHF does.

    Args:
        url: of `/get_reward`.
        rollouts: exchanges and their rewards, in turn.
    """

    def __init__(self, url: str, rollouts: list[tuple[Exchange, float]]) -> None:
        self._executor = agent.SingleTurnAgentExecutor(url)
        self._rollouts = rollouts
        self._turn = 0

    def __call__(self) -> Answer:
        exchange, expected = self._rollouts[self._turn % len(self._rollouts)]
        self._turn += 1
        failed, started = _tries.failed[threading.get_ident()], time.monotonic()
        reward = asyncio.run(self._execute(exchange))["reward"]
        seconds = time.monotonic() - started
        failed = _tries.failed[threading.get_ident()] - failed
        problem = "no reward after all tries" if reward is None else difference([expected], reward)
        return Answer("OpenRLHF", seconds, 1 + failed, problem)

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
