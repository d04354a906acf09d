"""GET /info: recipes, features, models, limits and library versions of the service."""

import math
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, Response

from reward_client.wire import WIRE_VERSION, FeatureInfo, Info, ModelInfo, RecipeInfo
from reward_service.features import Feature, GoldScore, RecipeOnly
from reward_service.features.feature import EMBEDDINGS
from reward_service.features.recipe import Recipe
from reward_service.http.app_state import AppState, AppStateDep
from reward_service.http.cached_bodies import LargeResponse
from reward_service.http.openapi import ERROR_RESPONSES
from reward_service.http.request_context import request_context
from reward_service.http.wire_version import WIRE_VERSION_PARAMETER, info_json, requested_version
from reward_service.models.protocols import GoldModel, TextEncoder
from reward_service.scoring.job import GoldWorker

router = APIRouter(tags=["operations"])

_LIBRARIES = (
    "glassbox-reward",
    "torch",
    "transformers",
    "tokenizers",
    "openvino",
    "numpy",
    "regex",
    "fastapi",
)
_FIXED = {"name", "description"}


@router.get(
    "/info",
    summary="What the service can do",
    response_model=Info,
    responses={422: ERROR_RESPONSES[422]},
    openapi_extra={"parameters": [WIRE_VERSION_PARAMETER]},
)
async def info(state: AppStateDep) -> Response:
    """Recipes, features, models, limits, versions."""
    version = requested_version(request_context().headers, "GET")
    models = _models(state)
    body = state.bodies.get(("info", version), models, lambda: info_json(_info(state, models), version))
    return LargeResponse(body, media_type="application/json")


def _models(state: AppState) -> dict[str, Any]:
    """The fields that change while the service runs."""
    models = {worker.name: worker.state for worker in state.scorer.workers}  # first: none of them is loaded later
    encoder = state.scorer.embedder.worker.model if state.scorer.embedder else None
    primary, all_golds = state.scorer.gold, state.scorer.golds
    golds = [info for one in all_golds if (info := _gold_info(state, one))] if len(all_golds) > 1 else []
    return {
        "relevance": _model_info(encoder, []) if encoder else None,
        "gold": _gold_info(state, primary) if primary else None,
        "models": models,
        "golds": golds,
    }


def _gold_info(state: AppState, worker: GoldWorker) -> ModelInfo | None:
    gold = worker.model
    if gold is None:
        return None
    return _model_info(gold, [*state.scorer.notices([gold]), *state.readiness.notices(worker)], gold.encoder_base)


def _info(state: AppState, models: dict[str, Any]) -> Info:
    settings = state.settings
    return Info(
        version=service_version(),
        wire_version=WIRE_VERSION,
        default_recipe=settings.default_recipe,
        recipes=[_recipe_info(recipe) for recipe in state.recipes],
        features=[_feature_info(f, *state.feature_ranges[f.name]) for f in state.features.values()],
        limits=settings.limits,
        versions={library: _version(library) for library in _LIBRARIES} | state.features.packages,
        **models,
    )


def _recipe_info(recipe: Recipe) -> RecipeInfo:
    return RecipeInfo(
        name=recipe.name,
        hash=recipe.hash,
        description=recipe.description.strip(),
        reward_range=recipe.bounds(),
        calibrated_for=recipe.calibrated_for,
        needs_encoder=recipe.needs_encoder,
        needs_gold=recipe.needs_gold,
        parameters=recipe.model_dump(mode="json", exclude=_FIXED),
        constants=recipe.constants,
        formula=recipe.formula,
    )


def _feature_info(feature: Feature[Any], low: float, high: float) -> FeatureInfo:
    return FeatureInfo(
        name=feature.name,
        label=feature.label,
        description=feature.description,
        range=(low, high) if math.isfinite(low) and math.isfinite(high) else None,
        log_key=feature.log_key,
        needs=_needs(feature),
    )


def _needs(feature: Feature[Any]) -> str:
    if feature.needs is RecipeOnly:
        return "nothing"
    if feature.needs is GoldScore:
        return "gold"
    return "encoder" if issubclass(feature.needs, EMBEDDINGS) else "text"


def _model_info(model: TextEncoder | GoldModel, notices: list[str], base: str | None = None) -> ModelInfo:
    return ModelInfo(
        id=model.id,
        revision=model.revision,
        device=model.device,
        backend=model.backend,
        notices=notices,
        base=base,
    )


def service_version() -> str:
    """Version of the installed distribution."""
    return _version("glassbox-reward")


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
