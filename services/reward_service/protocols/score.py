"""POST /score: the native protocol. Its body is `reward_client.wire.ScoreRequest`, its reply `ScoreReply`."""

from __future__ import annotations

from reward_client.wire import Item, ScoreReply, ScoreRequest
from reward_service.http.wire_version import WIRE_VERSION_PARAMETER, in_version, requested_version
from reward_service.protocols.base import Body, Call, ProtocolSpec, RouteSpec, ScoringOptions
from reward_service.protocols.lists import check_count
from reward_service.scoring.job import Job
from reward_service.scoring.validation import check_lengths, scorable_item
from reward_service.settings import Settings

__all__ = ["PROTOCOL"]

_SEARCHED_BYTES = 64 * 1024
"""Size up to which a body is searched: a search in tens of megabytes would stall the event loop."""
_ESCAPED_LETTERS = b"\\u006", b"\\u007"
"""Escapes that could spell a key."""


def _options(call: Call, body: Body) -> ScoringOptions | None:
    """The default options, if the body cannot set others. Raises InvalidRequestError for a bad wire version."""
    requested_version(call.headers)
    if len(body) > _SEARCHED_BYTES or b'"recipe' in body or b'"gold"' in body:
        return None
    if b"\\u00" in body and (_ESCAPED_LETTERS[0] in body or _ESCAPED_LETTERS[1] in body):
        return None
    return ScoringOptions(call.recipes.get(call.settings.default_recipe))


def _job(body: ScoreRequest, call: Call) -> Job:
    _check_limits(body, call.settings)
    recipe = call.recipes.get(body.recipe or call.settings.default_recipe, body.recipe_overrides)
    default = body.query_type_default or recipe.query_type_default
    return Job(
        entries=(scorable_item(item, default) for item in body.items),
        recipe=recipe,
        gold=body.gold,
        on_item_error=body.on_item_error,
        run=body.run,
        step=body.step,
    )


def _check_limits(body: ScoreRequest, settings: Settings) -> None:
    check_count(len(body.items), settings.max_items, "items")
    texts = [(i, f"items.{i}.{field}", text) for i, item in enumerate(body.items) for field, text in _texts(item)]
    check_lengths(texts, settings.max_text_chars)


def _texts(item: Item) -> list[tuple[str, str]]:
    prompt = (
        [("prompt", item.prompt)]
        if isinstance(item.prompt, str)
        else [(f"prompt.{turn}.content", message.content) for turn, message in enumerate(item.prompt)]
    )
    return [*prompt, ("response", item.response), ("reference", item.reference or "")]


def _reply(reply: ScoreReply, _: Job, call: Call) -> ScoreReply:
    return in_version(reply, requested_version(call.headers))


PROTOCOL = ProtocolSpec(
    name="score",
    routes=[
        RouteSpec(
            "/score",
            "Score a batch of (prompt, response)",
            "One reward per item, in order, with its features. A request is scored whole or refused whole.",
            [WIRE_VERSION_PARAMETER],
        )
    ],
    request_model=ScoreRequest,
    reply_model=ScoreReply,
    job=_job,
    reply=_reply,
    options=_options,
    # hold_s = 0: our client retries after Retry-After.
)
