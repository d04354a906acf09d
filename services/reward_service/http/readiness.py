"""Readiness probe: a forward pass through each model, shared by all concurrent requests.

    GET /readyz ─┐
    GET /readyz ─┼─▶ Readiness.probe ─▶ a forward pass through each model ─▶ ready, or UnreadyError
    GET /readyz ─┘

Load is no reason to be unready: the probe's text is tokenized in a thread of its own, and a busy model is ready
when a pass succeeds. One that fails may do so because of an item: then the probe's own text is computed. A model
behind a server is ready for ten seconds after a call that succeeded, so that probes are no load for it. The
route requires no API key. Sharing the probe bounds its cost. A caller without a key gets the names of the models
that are not ready, but not the causes, which may contain paths; the service logs them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from reward_client.wire import ChatMessage
from reward_service.batching import ModelWorker, ThreadExecutor, Unit
from reward_service.errors import GlassboxError, NotReadyError, UnavailableError
from reward_service.models.protocols import Exchange, Tokens
from reward_service.scoring.embedding import Embedder
from reward_service.scoring.job import GoldWorker

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")
OutT = TypeVar("OutT")

_KEY = b"readiness"
"""Cache key of the probe text, so that all probes share one vector; keys of real texts differ from it."""
_RETRY_S = 5.0
"""`Retry-After` when the forward pass failed or timed out; other causes have an estimate."""
_PROVEN_S = 10.0
"""Seconds that a call of a model behind a server shows that it is ready."""


class UnreadyError(NotReadyError):
    """One or more models are not ready; the message contains the causes."""

    def __init__(self, causes: dict[str, UnavailableError]) -> None:
        super().__init__("; ".join(map(str, causes.values())), max(c.retry_after_s for c in causes.values()))
        self._models = list(causes)

    def redacted(self) -> NotReadyError:
        """The same error without the causes, for callers without a valid API key."""
        names = " and ".join(self._models)
        return NotReadyError(f"not ready: {names}; see the log of the service for the cause", self.retry_after_s)


class Readiness:
    """Probes the models of one service; `embedder` is None, or `golds` empty, for a disabled model."""

    def __init__(self, embedder: Embedder | None, golds: Sequence[GoldWorker], timeout_s: float) -> None:
        self._embedder = embedder
        self._golds = golds
        self._timeout_s = timeout_s
        self._thread = ThreadExecutor("readiness")
        self._running: asyncio.Task[None] | None = None
        self._logged: str | None = None

    def stop(self) -> None:
        """End the thread."""
        self._thread.stop()

    async def probe(self) -> None:
        """Return when every model has completed a forward pass. Raises UnreadyError."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._probe_models(), name="readiness")
        await asyncio.shield(self._running)  # a caller that disconnects must not cancel the shared probe

    async def _probe_models(self) -> None:
        found = await asyncio.gather(*self._probes())
        causes = {name: cause for name, cause in found if cause is not None}
        if causes:
            error = UnreadyError(causes)
            self._log_once(str(error))
            raise error
        self._logged = None

    def _log_once(self, causes: str) -> None:
        """Log a change of the causes only, because orchestrators poll the route."""
        if causes != self._logged:
            logger.warning("not ready: %s", causes)
            self._logged = causes

    def _probes(self) -> Sequence[Awaitable[tuple[str, UnavailableError | None]]]:
        probes = []
        if self._embedder is not None:
            worker = self._embedder.worker
            probe = self._probe(worker, lambda model: model.tokenize(["ready?"])[0])
            probes.append(_outcome(worker, probe, self._timeout_s))
        exchange = Exchange((ChatMessage(role="user", content="Ready?"),), "Yes.")
        for gold in self._golds:
            probe = self._probe(gold, lambda model: model.tokenize(exchange))
            probes.append(_outcome(gold, probe, self._timeout_s))
        return probes

    async def _probe(
        self, worker: ModelWorker[ModelT, Tokens, OutT], tokenize: Callable[[ModelT], Tokens]
    ) -> None:
        """Run a forward pass, or wait for one that succeeds if the model is busy with those of others."""
        model = await worker.ready()
        if worker.succeeded_within(_PROVEN_S):
            return
        tokens = await self._thread.call(tokenize, model)
        if worker.busy and await worker.next_pass_succeeds():
            return
        submission = await worker.enqueue([Unit(_KEY, tokens, len(tokens.input_ids))], "readiness")
        try:
            await submission.wait()
            outcome = submission.outcomes[0]
        finally:
            submission.close()
        if isinstance(outcome, Exception):
            raise outcome


async def _outcome(
    worker: ModelWorker[Any, Tokens, Any], probe: Awaitable[None], seconds: float
) -> tuple[str, UnavailableError | None]:
    """Name of the model, and the reason why it is not ready, or None."""
    try:
        async with asyncio.timeout(seconds):
            await probe
    except TimeoutError:
        cause = f": {trouble}" if (trouble := worker.trouble()) else ""
        return worker.name, NotReadyError(
            f"no forward pass of the {worker.label} within {seconds:g} s{cause}", _RETRY_S
        )
    except UnavailableError as exc:
        return worker.name, exc
    except GlassboxError as exc:
        return worker.name, NotReadyError(str(exc), _RETRY_S)
    except ValueError as exc:
        return worker.name, NotReadyError(f"a forward pass of the {worker.label} failed: {exc}", _RETRY_S)
    return worker.name, None
