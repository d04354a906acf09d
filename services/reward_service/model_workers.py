"""The workers of the models that the settings name: the encoder, and gold models here or behind servers."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from reward_service.batching import BatchLimits, ConcurrentRunner, ModelWorker, Run, TaskExecutor
from reward_service.models.protocols import GoldModel, TextEncoder, Tokens
from reward_service.models.remote.spec import RemoteSpec, is_remote
from reward_service.scoring.embedding import Embedder, EncoderWorker, VectorCache, embed, is_finite
from reward_service.scoring.job import GoldWorker
from reward_service.settings import NO_MODEL, Settings
from reward_service.telemetry.metrics import Metrics

EncoderLoader = Callable[[Settings], TextEncoder]
GoldLoader = Callable[[Settings], GoldModel]
ModelT = TypeVar("ModelT", TextEncoder, GoldModel)
OutT = TypeVar("OutT")


def encoder_of(settings: Settings) -> TextEncoder:
    from reward_service.models.encoder import load_encoder

    return load_encoder(
        settings.encoder,
        settings.device,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
    )


def gold_of(settings: Settings) -> GoldModel:
    from reward_service.models.load_gold import load_gold

    return load_gold(settings.gold, settings.device, backend=settings.backend, threads=settings.threads)


async def model_workers(
    stack: AsyncExitStack,
    settings: Settings,
    encoder_loader: EncoderLoader,
    gold_loader: GoldLoader,
    metrics: Metrics,
) -> tuple[Embedder | None, list[GoldWorker]]:
    """The models that `settings` name, loading, until `stack` is closed."""
    embedder: Embedder | None = None
    golds: list[GoldWorker] = []
    if settings.encoder != NO_MODEL:
        embedder = await stack.enter_async_context(_embedder(settings, encoder_loader, metrics))
    for number, gold in enumerate(settings.golds, 1):
        name = "gold" if number == 1 else f"gold-{number}"
        label = f"{name} model {gold}" if len(settings.golds) > 1 else None  # which one, in messages
        one = settings.model_copy(update={"gold": gold, "primary_gold": None})
        worker = (
            _remote_gold_worker(name, label, one, metrics)
            if is_remote(gold)
            else _gold_worker(name, label, one, gold_loader, metrics)
        )
        golds.append(await stack.enter_async_context(worker))
    return embedder, golds


@asynccontextmanager
async def _embedder(settings: Settings, loader: EncoderLoader, metrics: Metrics) -> AsyncIterator[Embedder]:
    cache = VectorCache(settings.cache_bytes)
    async with _encoder_worker(settings, loader, metrics, cache) as worker:
        yield Embedder(worker, cache)


def _encoder_worker(
    settings: Settings, loader: EncoderLoader, metrics: Metrics, cache: VectorCache
) -> EncoderWorker:
    return _worker("encoder", settings, metrics, loader, embed, finite=is_finite, keep=cache.put)


def _gold_worker(
    name: str, label: str | None, settings: Settings, loader: GoldLoader, metrics: Metrics
) -> GoldWorker:
    return _worker(name, settings, metrics, loader, _gold_scores, finite=math.isfinite, label=label)


@asynccontextmanager
async def _remote_gold_worker(
    name: str, label: str | None, settings: Settings, metrics: Metrics
) -> AsyncIterator[GoldWorker]:
    from reward_service.models.remote.gold import connect
    from reward_service.models.remote.server import RemoteServer, new_client

    spec, key = RemoteSpec.parse(settings.gold), settings.gold_api_key
    secret = key.get_secret_value() if key is not None else None
    async with new_client(spec.url, secret, settings.gold_in_flight) as client:
        server = RemoteServer(client, spec.url, settings.gold_timeout_s)

        async def load(_: Settings) -> GoldModel:
            return await connect(spec, server)

        async with _worker(
            name,
            settings,
            metrics,
            load,
            _gold_scores,
            finite=math.isfinite,
            label=label,
            executor=TaskExecutor,
            runner=partial(ConcurrentRunner, in_flight=settings.gold_in_flight),
            trouble=lambda: server.trouble or server.refusal,
        ) as worker:
            yield worker


def _gold_scores(
    model: GoldModel, batch: Sequence[Tokens]
) -> Sequence[float] | Awaitable[Sequence[float | Exception]]:
    return model.score(batch)


def _worker(
    name: str,
    settings: Settings,
    metrics: Metrics,
    loader: Callable[[Settings], ModelT | Awaitable[ModelT]],
    run: Run[ModelT, Tokens, OutT],
    *,
    finite: Callable[[OutT], bool],
    keep: Callable[[Hashable, OutT], None] | None = None,
    **options: Any,
) -> ModelWorker[ModelT, Tokens, OutT]:
    return ModelWorker(
        name,
        lambda: loader(settings),
        run,
        limits=lambda model: _limits(settings, model.limits),
        max_waiting_items=settings.max_waiting_items,
        max_waiting_s=settings.max_waiting_s,
        batch_timeout_s=settings.batch_timeout_s,
        max_restarts=settings.max_model_restarts,
        keep=keep,
        finite=finite,
        metrics_hook=metrics,
        **options,
    )


def _limits(settings: Settings, own: BatchLimits) -> BatchLimits:
    return BatchLimits(settings.max_batch_tokens or own.max_tokens, settings.max_batch_items or own.max_items)
