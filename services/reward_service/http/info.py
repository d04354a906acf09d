"""GET /info: recipes, models, limits and library versions of the service."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter

from reward_client.wire import Info, LimitsInfo, ModelInfo, RecipeInfo
from reward_service.features.recipe import Recipe
from reward_service.http.app_state import AppStateDep
from reward_service.models.protocols import GoldModel, TextEncoder

__all__ = ["router", "service_version"]

router = APIRouter(tags=["operations"])

_LIBRARIES = (
    "glassbox-reward",
    "torch",
    "transformers",
    "sentence-transformers",
    "openvino",
    "numpy",
    "regex",
    "fastapi",
)
_FIXED = {"name", "description"}


@router.get("/info")
async def info(state: AppStateDep) -> Info:
    """Recipes, models, limits and library versions."""
    settings = state.settings
    encoder = state.scorer.embedder.worker.model if state.scorer.embedder else None
    gold = state.scorer.gold.model if state.scorer.gold else None
    return Info(
        version=service_version(),
        default_recipe=settings.default_recipe,
        recipes=[_recipe_info(recipe) for recipe in state.recipes],
        relevance=_model_info(encoder, []) if encoder else None,
        gold=_model_info(gold, state.scorer.notices()) if gold else None,
        limits=LimitsInfo(
            max_body_bytes=settings.max_body_bytes,
            max_items=settings.max_items,
            max_text_chars=settings.max_text_chars,
        ),
        versions={library: _version(library) for library in _LIBRARIES},
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
    )


def _model_info(model: TextEncoder | GoldModel, notices: list[str]) -> ModelInfo:
    return ModelInfo(
        id=model.id, revision=model.revision, device=model.device, backend=model.backend, notices=notices
    )


def service_version() -> str:
    """Version of the installed distribution."""
    return _version("glassbox-reward")


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
