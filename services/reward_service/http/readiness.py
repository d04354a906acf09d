"""Readiness probe: a forward pass through each model, shared by all concurrent requests.

    GET /readyz ─┐
    GET /readyz ─┼─▶ Readiness.probe ─▶ a forward pass through each model ─▶ ready, or UnreadyError
    GET /readyz ─┘

Load is no reason to be unready: the probe's text is tokenized in a thread of its own, and a busy model is ready
when a pass succeeds. One that fails may do so because of an item: then the probe's own text is computed. A pass
with items of requests that takes longer than the probe waits is load too, until `batch_timeout_s`: then it counts
as hung, and the model as loading, or as stopped, for which the supervisor replaces the process.

A model behind a server is ready once it is loaded. Trouble of its server is a notice, in the reply and in
`GET /info`, because requests without gold scores need no server. To know it, a text is scored there, unless one
was in the last ten seconds.

The route requires no API key. Sharing the probe bounds its cost. A caller without a key gets the names of the
models that are not ready, but not the causes, which may contain paths; the service logs them.
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
"""Seconds that a call of a model behind a server shows that the server answers."""
_SERVER_S = 1.0
"""Seconds that the reply waits for what such a server answers; a later answer is a notice of the next reply."""


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
        self._checks: dict[str, asyncio.Task[None]] = {}
        """Of servers, by name of the model."""
        self._troubles: dict[str, str] = {}
        """What the last check of a server found, by name of the model."""

    def stop(self) -> None:
        """End the thread and the checks of servers."""
        self._thread.stop()
        for check in self._checks.values():
            check.cancel()

    def notices(self, gold: GoldWorker) -> list[str]:
        """Why the server of `gold` gives no scores now; nothing for a model in this process."""
        if not gold.is_remote or gold.succeeded_within(_PROVEN_S):
            return []
        trouble = gold.trouble() or self._troubles.get(gold.name)
        return [f"the server of the {gold.label} gives no scores: {trouble}"] if trouble else []

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
            probe = (self._check_server if gold.is_remote else self._probe)(
                gold, lambda model: model.tokenize(exchange)
            )
            probes.append(_outcome(gold, probe, self._timeout_s))
        return probes

    async def _probe(
        self, worker: ModelWorker[ModelT, Tokens, OutT], tokenize: Callable[[ModelT], Tokens]
    ) -> None:
        """Run a forward pass, or wait for one that succeeds if the model is busy with those of others."""
        model = await worker.ready()
        tokens = await self._thread.call(tokenize, model)
        if worker.busy and await worker.next_pass_succeeds():
            return
        await _compute(worker, tokens)

    async def _check_server(
        self, worker: ModelWorker[ModelT, Tokens, OutT], tokenize: Callable[[ModelT], Tokens]
    ) -> None:
        """Return once the model is loaded; its server is asked for a score in a task of its own."""
        model = await worker.ready()
        check = self._checks.get(worker.name)
        if check is None or check.done():
            if worker.succeeded_within(_PROVEN_S):
                return
            check = asyncio.create_task(self._ask_server(worker, model, tokenize), name="readiness-server")
            self._checks[worker.name] = check
        await asyncio.wait([check], timeout=min(_SERVER_S, self._timeout_s / 2))

    async def _ask_server(
        self, worker: ModelWorker[ModelT, Tokens, OutT], model: ModelT, tokenize: Callable[[ModelT], Tokens]
    ) -> None:
        """Note what `worker` says when its server is asked for a score; a change is logged."""

        async def ask() -> None:
            await _compute(worker, await self._thread.call(tokenize, model))

        _, cause = await _outcome(worker, ask(), self._timeout_s)
        if cause is None:
            self._troubles.pop(worker.name, None)
        elif self._troubles.get(worker.name) != str(cause):
            self._troubles[worker.name] = str(cause)
            logger.warning("the service is ready, without scores of the %s: %s", worker.label, cause)


async def _compute(worker: ModelWorker[Any, Tokens, Any], tokens: Tokens) -> None:
    """Run a forward pass of the probe's text. Raises what it fails with."""
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
        if worker.is_computing(besides=_KEY):
            return worker.name, None
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
