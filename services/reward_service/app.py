"""The one place that wires: settings in, application out. The lifespan nests what must be closed again."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import numpy as np
import torch
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from reward_client.wire import ScoreRequest
from reward_service.admission.pipeline import RequestPipeline
from reward_service.admission.turnstile import Turnstile
from reward_service.batching import BatchLimits, ModelWorker
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from reward_service.http import auth, openapi, operations, page, problems
from reward_service.http.app_state import AppState
from reward_service.http.readiness import Readiness
from reward_service.http.request_context import RequestContextMiddleware
from reward_service.http.request_metrics import RequestMetricsMiddleware
from reward_service.models.encoder import load_encoder
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import GoldModel, TextEncoder
from reward_service.protocols import openrlhf, score
from reward_service.scoring.embedding import Embedder, EncoderWorker, VectorCache
from reward_service.scoring.job import GoldWorker
from reward_service.scoring.pipeline import Scorer
from reward_service.settings import NO_MODEL, Settings
from reward_service.telemetry.admission_metrics import AdmissionMetrics
from reward_service.telemetry.metrics import Metrics

__all__ = ["create_app"]

EncoderLoader = Callable[[Settings], TextEncoder]
GoldLoader = Callable[[Settings], GoldModel]


def _load_encoder(settings: Settings) -> TextEncoder:
    return load_encoder(
        settings.encoder,
        settings.device,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
    )


def _load_gold(settings: Settings) -> GoldModel:
    return load_gold(settings.gold, settings.device)


def create_app(
    settings: Settings,
    *,
    encoder_loader: EncoderLoader = _load_encoder,
    gold_loader: GoldLoader = _load_gold,
) -> FastAPI:
    """The service as an ASGI application. The loaders are the seam where tests put models of their own."""
    features = FeatureRegistry.load()
    recipes = RecipeRegistry.load(settings.recipes_dir, features)
    recipes.get(settings.default_recipe)
    keys = auth.keyring(settings)
    metrics = Metrics()
    admission_metrics = AdmissionMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        async with AsyncExitStack() as stack:
            embedder: Embedder | None = None
            gold: GoldWorker | None = None
            if settings.encoder != NO_MODEL:
                cache = VectorCache(settings.cache_bytes)
                worker = _encoder_worker(settings, encoder_loader, metrics, cache)
                embedder = Embedder(await stack.enter_async_context(worker), cache)
            if settings.gold != NO_MODEL:
                gold = await stack.enter_async_context(_gold_worker(settings, gold_loader, metrics))
            pipeline = RequestPipeline(settings, admission_metrics)
            app.state.drain = pipeline.drain
            scorer = Scorer(embedder, gold)
            readiness = Readiness(embedder, gold, settings.ready_timeout_s)
            app.state.glassbox = AppState(
                settings, features, recipes, embedder, gold, scorer, metrics, pipeline, readiness, keys
            )
            yield

    app: FastAPI = FastAPIOffline(
        title="Glassbox",
        summary="A reward you can see through.",
        version=operations.service_version(),
        lifespan=lifespan,
    )
    problems.install(app, admission_metrics)
    for router in (score.router, openrlhf.router, operations.router, page.router):
        app.include_router(router)
    app.add_middleware(Turnstile, route=cast(Route, score.router.routes[0]))
    app.add_middleware(auth.Guard, keys=keys, metrics=admission_metrics)
    app.add_middleware(RequestMetricsMiddleware, metrics=metrics)
    app.add_middleware(RequestContextMiddleware)  # the outermost
    openapi.install(app, [ScoreRequest, openrlhf.OpenRlhfRequest], with_keys=keys is not None)
    return app


def _encoder_worker(
    settings: Settings, loader: EncoderLoader, metrics: Metrics, cache: VectorCache
) -> EncoderWorker:
    return ModelWorker(
        "encoder",
        lambda: loader(settings),
        lambda model, batch: list(model.embed(batch)),
        limits=lambda model: _limits(settings, model.limits),
        max_waiting_items=settings.max_waiting_items,
        max_waiting_s=settings.max_waiting_s,
        batch_timeout_s=settings.batch_timeout_s,
        max_restarts=settings.max_model_restarts,
        keep=cache.put,
        finite=lambda vector: bool(np.isfinite(vector).all()),
        metrics_hook=metrics,
    )


def _gold_worker(settings: Settings, loader: GoldLoader, metrics: Metrics) -> GoldWorker:
    return ModelWorker(
        "gold",
        lambda: loader(settings),
        lambda model, batch: model.judge(batch),
        limits=lambda model: _limits(settings, model.limits),
        max_waiting_items=settings.max_waiting_items,
        max_waiting_s=settings.max_waiting_s,
        batch_timeout_s=settings.batch_timeout_s,
        max_restarts=settings.max_model_restarts,
        finite=math.isfinite,
        metrics_hook=metrics,
    )


def _limits(settings: Settings, own: BatchLimits) -> BatchLimits:
    return BatchLimits(settings.max_batch_tokens or own.max_tokens, settings.max_batch_items or own.max_items)
