"""POST /score: the native protocol, `reward_client.wire` as it stands."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from reward_client.wire import Item, ScoreReply, ScoreRequest
from reward_service.errors import TooLargeError
from reward_service.http.app_state import AppState, AppStateDep
from reward_service.http.json_body import parse
from reward_service.http.openapi import ERROR_RESPONSES, WIRE_VERSION_PARAMETER, request_body
from reward_service.http.wire_version import requested_version, score_reply_json
from reward_service.scoring.job import Job
from reward_service.scoring.validation import check_lengths, scorable_item
from reward_service.settings import Settings

__all__ = ["router"]

router = APIRouter(tags=["score"])


@router.post(
    "/score",
    response_model=ScoreReply,
    responses=ERROR_RESPONSES,
    summary="Score a batch of (prompt, response)",
    openapi_extra=request_body("ScoreRequest", WIRE_VERSION_PARAMETER),
)
async def score(request: Request, state: AppStateDep) -> Response:
    """One reward per item, in order, each taken apart. The request is scored whole or refused whole."""
    version = requested_version(request)
    return await state.pipeline.answer(request, "score", lambda body: _scored(body, state, version))


async def _scored(content: bytes, state: AppState, version: int) -> bytes:
    body = parse(ScoreRequest, content)
    _check_limits(body, state.settings)
    recipe = state.recipes.get(body.recipe or state.settings.default_recipe, body.recipe_overrides)
    default = body.query_type_default or recipe.query_type_default
    job = Job(
        entries=[scorable_item(item, default) for item in body.items],
        recipe=recipe,
        gold=body.gold,
        on_item_error=body.on_item_error,
    )
    reply = await state.score(job, protocol="score", run=body.run, step=body.step)
    return score_reply_json(reply, version)


def _check_limits(body: ScoreRequest, settings: Settings) -> None:
    if len(body.items) > settings.max_items:
        raise TooLargeError(f"{len(body.items)} items, at most {settings.max_items} fit one request")
    texts = ((i, f"items.{i}.{field}", text) for i, item in enumerate(body.items) for field, text in _texts(item))
    check_lengths(texts, settings.max_text_chars)


def _texts(item: Item) -> list[tuple[str, str]]:
    prompt = (
        [("prompt", item.prompt)]
        if isinstance(item.prompt, str)
        else [(f"prompt.{turn}.content", message.content) for turn, message in enumerate(item.prompt)]
    )
    return [*prompt, ("response", item.response), ("reference", item.reference or "")]
