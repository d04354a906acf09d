"""Wiring of the application: the one place that creates the parts from the settings and connects them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from reward_service.admission.memory import MemoryBudget
from reward_service.admission.pipeline import ProtocolMiddleware, ProtocolRoute, RequestPipeline
from reward_service.batching import BatchLimits, ConcurrentRunner, ModelWorker, Run, StepExecutor, TaskExecutor
from reward_service.datasets.store import DatasetStore
from reward_service.errors import ConfigurationError
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from reward_service.http import auth, browser, datasets, health, info, openapi, page, problems
from reward_service.http.app_state import AppState
from reward_service.http.readiness import Readiness
from reward_service.http.request_context import Check, RequestContextMiddleware
from reward_service.models.protocols import GoldModel, TextEncoder, Tokens
from reward_service.models.remote.spec import RemoteSpec, is_remote
from reward_service.protocols import (
    eval_protocol,
    llamafactory,
    nemo_gym,
    nemo_gym_sessions,
    openrlhf,
    paddlenlp,
    reward_server,
    score,
    slime,
    xtuner,
)
from reward_service.protocols.base import EndpointSpec
from reward_service.scoring.embedding import Embedder, EncoderWorker, VectorCache, embed, is_finite
from reward_service.scoring.job import GoldWorker
from reward_service.scoring.pipeline import Scorer
from reward_service.settings import NO_MODEL, Settings
from reward_service.telemetry.metrics import Metrics

PROTOCOLS: Sequence[EndpointSpec[Any]] = (
    score.PROTOCOL,
    openrlhf.PROTOCOL,
    llamafactory.PROTOCOL,
    eval_protocol.PROTOCOL,
    xtuner.PROTOCOL,
    paddlenlp.PROTOCOL,
    slime.PROTOCOL,
    *reward_server.PROTOCOLS,
    nemo_gym.PROTOCOL,
    *nemo_gym_sessions.PROTOCOLS,
)
"""The protocols that a service speaks. A new protocol is one module and its entry here."""

EncoderLoader = Callable[[Settings], TextEncoder]
GoldLoader = Callable[[Settings], GoldModel]
ModelT = TypeVar("ModelT", TextEncoder, GoldModel)
OutT = TypeVar("OutT")


def import_model_libraries(settings: Settings) -> None:
    """Import what loading the models of `settings` will need; nothing for a service without models."""
    if settings.encoder != NO_MODEL:
        from reward_service.models.encoder import import_encoder_libraries

        import_encoder_libraries(settings.encoder, settings.device, settings.backend)
    for gold in settings.golds:
        if is_remote(gold):
            if RemoteSpec.parse(gold).tokenizer is not None:
                import reward_service.models.pretrained  # noqa: F401
        else:
            from reward_service.models.load_gold import import_gold_libraries

            import_gold_libraries(gold, settings.device, settings.backend)


def _load_encoder(settings: Settings) -> TextEncoder:
    from reward_service.models.encoder import load_encoder

    return load_encoder(
        settings.encoder,
        settings.device,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
    )


def _load_gold(settings: Settings) -> GoldModel:
    from reward_service.models.load_gold import load_gold

    return load_gold(settings.gold, settings.device, backend=settings.backend, threads=settings.threads)


def create_app(
    settings: Settings,
    *,
    encoder_loader: EncoderLoader = _load_encoder,
    gold_loader: GoldLoader = _load_gold,
    protocols: Sequence[EndpointSpec[Any]] = PROTOCOLS,
) -> FastAPI:
    """The service as an ASGI application. Tests pass loaders that return fake models."""
    _check_remote(settings)
    features = FeatureRegistry.load()
    recipes = RecipeRegistry.load(settings.recipes_dir, features, settings)
    ranges = features.ranges(recipes.get(settings.default_recipe))
    keys = auth.keyring(settings)
    metrics = Metrics(settings.metrics_runs)
    store = DatasetStore(settings, with_keys=keys is not None)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            embedder, golds = await _models(stack, settings, encoder_loader, gold_loader, metrics)
            scorer = Scorer(embedder, golds, settings.max_request_references)
            executor = await stack.enter_async_context(
                StepExecutor(settings.preparation_threads, settings.max_waiting_s)
            )
            metrics.watch_preparation(lambda: executor.n_jobs, lambda: executor.n_bytes)
            memory = MemoryBudget(settings, metrics)
            pipeline = RequestPipeline(settings, recipes, scorer, executor, metrics, memory, store)
            readiness = Readiness(embedder, golds, settings.ready_timeout_s)
            stack.callback(readiness.stop)
            app.state.pipeline = pipeline
            app.state.glassbox = AppState(
                settings=settings,
                features=features,
                feature_ranges=ranges,
                recipes=recipes,
                scorer=scorer,
                metrics=metrics,
                executor=executor,
                memory=memory,
                datasets=store,
                pipeline=pipeline,
                readiness=readiness,
                keys=keys,
            )
            yield

    return _application(settings, protocols, keys, metrics, lifespan)


def _application(
    settings: Settings,
    protocols: Sequence[EndpointSpec[Any]],
    keys: auth.Keyring | None,
    metrics: Metrics,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """The application with its routes, checks and error replies."""
    checks: list[Check] = [browser.BrowserCheck(settings, with_keys=keys is not None)]
    if keys is not None:
        checks.append(auth.AuthCheck(keys))
    app: FastAPI = FastAPIOffline(
        title="Glassbox",
        summary="Reward as a service, with the features behind every reward.",
        version=info.service_version(),
        lifespan=lifespan,
        root_path=settings.root_path or "",
        redirect_slashes=False,
    )
    app.state.metrics = metrics
    problems.install(app, metrics)
    routes = [ProtocolRoute(route, spec) for spec in protocols for route in spec.routes]
    app.router.routes += routes  # for methods that they do not have
    for router in (health.router, info.router, datasets.router, page.router):
        app.include_router(router)
    app.add_middleware(ProtocolMiddleware, routes=routes)
    app.add_middleware(
        RequestContextMiddleware, checks=checks, error_response=problems.error_response, metrics=metrics
    )
    openapi.install(app, protocols, with_keys=keys is not None)
    return app


def _check_remote(settings: Settings) -> None:
    """Raise ConfigurationError for a wrong URL of a gold model, which ends the start."""
    servers = {RemoteSpec.parse(gold).url for gold in settings.golds if is_remote(gold)}
    if settings.gold_api_key is not None and len(servers) > 1:
        raise ConfigurationError(
            f"GLASSBOX_GOLD_API_KEY is the key of one server, and --gold names {len(servers)}: unset it, and let "
            "servers that need a key be gold models of services of their own (glassbox+http://…)"
        )


async def _models(
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
