"""Whether the models answer right now: one look at a time, shared by everybody who asks in the meantime.

    GET /readyz ─┐
    GET /readyz ─┼─▶ Readiness.look ─▶ a forward pass through each model ─▶ done, or UnreadyError
    GET /readyz ─┘

Anybody may ask, without a key. So all who ask together cost one forward pass, and a stranger is told which model
is not ready, but not why: the cause may hold paths and other things of the house. The log has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from reward_client.wire import ChatMessage
from reward_service.batching import ModelWorker, Unit
from reward_service.errors import GlassboxError, NotReadyError, UnavailableError
from reward_service.models.protocols import Exchange, Tokens
from reward_service.scoring.embedding import Embedder
from reward_service.scoring.job import GoldWorker

__all__ = ["Readiness", "UnreadyError"]

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")
OutT = TypeVar("OutT")

_KEY = b"readiness"
"""One key for all looks, so that the cache keeps one vector of them; no text has it."""
_RETRY_S = 5.0
"""After a forward pass that failed or did not end; what loads or waits says itself when to come back."""


class UnreadyError(NotReadyError):
    """Models that would not score now; the message has the causes, `redacted` has none."""

    def __init__(self, causes: dict[str, UnavailableError]) -> None:
        super().__init__("; ".join(map(str, causes.values())), max(c.retry_after_s for c in causes.values()))
        self._models = list(causes)

    def redacted(self) -> NotReadyError:
        """The same, for callers who showed no key."""
        names = " and ".join(self._models)
        return NotReadyError(f"not ready: {names}; the log of the service has the cause", self.retry_after_s)


class Readiness:
    """Looks at the models of one service; None stands for a model that the operator switched off."""

    def __init__(self, embedder: Embedder | None, gold: GoldWorker | None, timeout_s: float) -> None:
        self._embedder = embedder
        self._gold = gold
        self._timeout_s = timeout_s
        self._looking: asyncio.Task[None] | None = None
        self._said: str | None = None

    async def probe(self) -> None:
        """Return when every model has done a forward pass. Raises UnreadyError."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="readiness")
        await asyncio.shield(self._looking)  # whoever leaves takes nothing from the others

    async def _look(self) -> None:
        found = await asyncio.gather(*self._probes())
        causes = {name: cause for name, cause in found if cause is not None}
        if causes:
            error = UnreadyError(causes)
            self._say(str(error))
            raise error
        self._said = None

    def _say(self, causes: str) -> None:
        """Into the log, once: who waits for a service asks again and again."""
        if causes != self._said:
            logger.warning("not ready: %s", causes)
            self._said = causes

    def _probes(self) -> Sequence[Awaitable[tuple[str, UnavailableError | None]]]:
        probes = []
        if self._embedder is not None:
            worker = self._embedder.worker
            probe = _probe(worker, lambda model: model.tokenize(["ready?"])[0])
            probes.append(_outcome(worker.name, probe, self._timeout_s))
        if self._gold is not None:
            exchange = Exchange((ChatMessage(role="user", content="Ready?"),), "Yes.")
            probe = _probe(self._gold, lambda model: model.tokenize(exchange))
            probes.append(_outcome(self._gold.name, probe, self._timeout_s))
        return probes


async def _outcome(name: str, probe: Awaitable[None], seconds: float) -> tuple[str, UnavailableError | None]:
    """The model's name, and why it is not ready when it is not."""
    try:
        async with asyncio.timeout(seconds):
            await probe
    except TimeoutError:
        return name, NotReadyError(f"no forward pass of the {name} model within {seconds:g} s", _RETRY_S)
    except UnavailableError as exc:
        return name, exc
    except (GlassboxError, ValueError) as exc:
        return name, NotReadyError(f"a forward pass failed: {exc}", _RETRY_S)
    return name, None


async def _probe(worker: ModelWorker[ModelT, Tokens, OutT], read: Callable[[ModelT], Tokens]) -> None:
    """A forward pass; a model that is at work needs none, as long as it is not stuck."""
    model = await worker.ready()
    tokens = await asyncio.to_thread(read, model)
    if worker.busy:
        await worker.wait_for_pass()
        return
    done = await worker.submit([Unit(_KEY, tokens, len(tokens))])
    if isinstance(done.outcomes[0], Exception):
        raise done.outcomes[0]
