"""Wiring of the application: the one place that creates the parts from the settings and connects them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from reward_service.admission.memory import MemoryBudget
from reward_service.admission.pipeline import ProtocolMiddleware, ProtocolRoute, RequestPipeline
from reward_service.batching import StepExecutor
from reward_service.datasets.store import DatasetStore
from reward_service.errors import ConfigurationError
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from reward_service.http import auth, browser, datasets, health, info, openapi, page, problems
from reward_service.http.app_state import AppState
from reward_service.http.cached_bodies import CachedBodies
from reward_service.http.other_requests import OtherRequestsMiddleware, QueryCheck
from reward_service.http.readiness import Readiness
from reward_service.http.request_context import Check, RequestContextMiddleware
from reward_service.http.shared_call import SharedCall
from reward_service.model_workers import EncoderLoader, GoldLoader, encoder_of, gold_of, model_workers
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


def create_app(
    settings: Settings,
    *,
    encoder_loader: EncoderLoader = encoder_of,
    gold_loader: GoldLoader = gold_of,
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
            embedder, golds = await model_workers(stack, settings, encoder_loader, gold_loader, metrics)
            scorer = Scorer(embedder, golds, settings.max_request_references)
            executor = await stack.enter_async_context(
                StepExecutor(settings.preparation_threads, settings.max_waiting_s)
            )
            metrics.watch_preparation(lambda: executor.n_jobs, lambda: executor.n_bytes)
            memory = MemoryBudget(settings, metrics)
            pipeline = RequestPipeline(settings, recipes, scorer, executor, metrics, memory, store)
            readiness = Readiness(embedder, golds, settings.ready_timeout_s, settings.request_timeout_s)
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
                bodies=CachedBodies(),
                exposition=SharedCall(metrics.exposition),
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
    checks.append(QueryCheck(settings.max_url_parameters))
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
    app.add_middleware(
        OtherRequestsMiddleware,
        most=settings.max_other_requests,
        error_response=problems.error_response,
        metrics=metrics,
    )
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
