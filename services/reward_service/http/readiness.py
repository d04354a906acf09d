"""Readiness probe: a forward pass through each model, shared by all concurrent requests.

    GET /readyz ─┐
    GET /readyz ─┼─▶ Readiness.probe ─▶ a forward pass through each model ─▶ ready, or UnreadyError
    GET /readyz ─┘

Load is no reason to be unready: the probe's text is tokenized in a thread of its own, and a busy model is ready
when a pass succeeds. One that fails may do so because of an item: then the probe's own text is computed. A pass
with items of requests that takes longer than the probe waits is load too, until it has outlived every request
(`request_timeout_s`). One that counts as hung (`batch_timeout_s`) makes the model load again, or stop, for which
the supervisor replaces the process. A tokenizer that does not return is no load.

A model behind a server is ready once it is loaded. Trouble of its server is a notice, in the reply and in
`GET /info`, because requests without gold scores need no server. To know it, a text is scored there, unless one
was in the last ten seconds.

The route requires no API key. Sharing the probe bounds its cost. A caller without a key gets the names of the
models that are not ready, but not the causes, which may contain paths; the service logs them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What a check of a server found."""

    cause: str
    noted: float


class Readiness:
    """Probes the models of one service.

    Args:
        embedder: None for a disabled encoder.
        golds: empty for a disabled gold model.
        timeout_s: seconds that a probe waits.
        max_pass_s: seconds after which a pass with items of requests is not load any more.
        proven_s: seconds for which a call of a model behind a server shows that the server answers.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        golds: Sequence[GoldWorker],
        timeout_s: float,
        max_pass_s: float,
        proven_s: float = _PROVEN_S,
    ) -> None:
        self._embedder = embedder
        self._golds = golds
        self._timeout_s = timeout_s
        self._max_pass_s = max_pass_s
        self._proven_s = proven_s
        self._thread = ThreadExecutor("readiness")
        self._running: asyncio.Task[None] | None = None
        self._logged: str | None = None
        self._checks: dict[str, asyncio.Task[None]] = {}
        """Of servers, by name of the model."""
        self._troubles: dict[str, _Trouble] = {}
        """By name of the model."""
        self._tokenized: set[str] = set()
        """Names of the models for which the probe that runs has been tokenized."""

    def stop(self) -> None:
        """End the thread and the checks of servers."""
        self._thread.stop()
        for check in self._checks.values():
            check.cancel()

    def notices(self, gold: GoldWorker) -> list[str]:
        """Why the server of `gold` gives no scores now; nothing for a model in this process."""
        noted = self._troubles.get(gold.name)
        if noted is not None and gold.succeeded_within(time.monotonic() - noted.noted):
            noted = None  # the server has answered since
            del self._troubles[gold.name]
        if not gold.is_remote or gold.succeeded_within(self._proven_s):
            return []
        trouble = gold.trouble() or (noted.cause if noted is not None else None)
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
            probes.append(self._outcome(worker, probe))
        exchange = Exchange((ChatMessage(role="user", content="Ready?"),), "Yes.")
        for gold in self._golds:
            probe = (self._check_server if gold.is_remote else self._probe)(
                gold, lambda model: model.tokenize(exchange)
            )
            probes.append(self._outcome(gold, probe))
        return probes

    async def _probe(
        self, worker: ModelWorker[ModelT, Tokens, OutT], tokenize: Callable[[ModelT], Tokens]
    ) -> None:
        """Run a forward pass, or wait for one that succeeds if the model is busy with those of others."""
        self._tokenized.discard(worker.name)
        model = await worker.ready()
        tokens = await self._thread.call(tokenize, model)
        self._tokenized.add(worker.name)
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
            if worker.succeeded_within(self._proven_s):
                self._troubles.pop(worker.name, None)
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

        _, cause = await self._outcome(worker, ask())
        before = self._troubles.pop(worker.name, None)
        if cause is not None:
            self._troubles[worker.name] = _Trouble(str(cause), time.monotonic())
            if before is None or before.cause != str(cause):
                logger.warning("the service is ready, without scores of the %s: %s", worker.label, cause)

    async def _outcome(
        self, worker: ModelWorker[Any, Tokens, Any], probe: Awaitable[None]
    ) -> tuple[str, UnavailableError | None]:
        """Name of the model, and the reason why it is not ready, or None."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await probe
        except TimeoutError:
            tokenized = worker.name in self._tokenized
            if tokenized and worker.is_computing(besides=_KEY, less_than_s=self._max_pass_s):
                return worker.name, None
            cause = f": {trouble}" if (trouble := worker.trouble()) else ""
            return worker.name, NotReadyError(
                f"no forward pass of the {worker.label} within {self._timeout_s:g} s{cause}", _RETRY_S
            )
        except UnavailableError as exc:
            return worker.name, exc
        except GlassboxError as exc:
            return worker.name, NotReadyError(str(exc), _RETRY_S)
        except ValueError as exc:
            return worker.name, NotReadyError(f"a forward pass of the {worker.label} failed: {exc}", _RETRY_S)
        except Exception as exc:  # noqa: BLE001 - a tokenizer may raise anything
            return worker.name, NotReadyError(f"the probe of the {worker.label} failed: {exc!r}", _RETRY_S)
        return worker.name, None


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
