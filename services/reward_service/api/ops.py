"""GET /healthz, /readyz, /metrics, /info: what operators and trainers ask before and while they rely on us."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Request, Response

from reward_client.wire import Info, LimitsInfo, ModelInfo, RecipeInfo
from reward_service.api.auth import presented_keys
from reward_service.api.context import ContextDep
from reward_service.api.describe import ANSWERS
from reward_service.api.readiness import UnreadyError
from reward_service.models.base import GoldModel, TextEncoder
from reward_service.whitebox.recipe import Recipe

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


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive and its event loop turns."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: ANSWERS[503]})
async def readyz(request: Request, context: ContextDep) -> dict[str, str]:
    """Every model is loaded, answers a real forward pass right now, and the service is to stay."""
    context.edge.drain.check()
    try:
        await context.readiness.look()
    except UnreadyError as exc:
        if context.keys is not None and not context.keys.accepts(presented_keys(request.scope["headers"])):
            raise exc.for_strangers() from None
        raise
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(context: ContextDep) -> Response:
    """Prometheus' text format."""
    exposition = context.metrics.exposition() + context.edge.metrics.exposition()
    return Response(exposition, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/info")
async def info(context: ContextDep) -> Info:
    """Recipes, models, limits, versions."""
    settings = context.settings
    encoder = context.embedder.worker.model if context.embedder else None
    gold = context.gold.model if context.gold else None
    return Info(
        version=service_version(),
        default_recipe=settings.default_recipe,
        recipes=[_recipe_info(recipe) for recipe in context.recipes],
        relevance=_model_info(encoder, []) if encoder else None,
        gold=_model_info(gold, context.scorer.notices()) if gold else None,
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
    """The version of this distribution."""
    return _version("glassbox-reward")


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
