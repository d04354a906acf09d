"""POST /score: the native protocol. Its body is `reward_client.wire.ScoreRequest`, its reply `ScoreReply`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reward_client.wire import FieldError, Item, ScoreReply, ScoreRequest
from reward_service.errors import InvalidRequestError
from reward_service.http.wire_version import WIRE_VERSION_PARAMETER, in_version, requested_version
from reward_service.protocols.base import Body, Call, ProtocolSpec, RouteSpec, ScoringOptions
from reward_service.scoring.job import (
    InvalidItem,
    ItemLimits,
    Job,
    QueryTypeDefault,
    ScorableItem,
    check_count,
    default_query_type,
    prompt_texts,
    reference_texts,
    scorable_item,
)

_SEARCHED_BYTES = 64 * 1024
"""Size up to which a body is searched: a search in tens of megabytes would stall the event loop."""
_GOLD = re.compile(rb'"gold"(?:[ \t\n\r]*:[ \t\n\r]*(true|false))?')
_ESCAPED_LETTERS = b"\\u006", b"\\u007"
"""Escapes that could spell a key."""


def _options(call: Call, body: Body) -> ScoringOptions | None:
    """The options, if the body names no recipe. Raises InvalidRequestError for a bad header or URL."""
    requested_version(call.headers)
    if call.query:
        message = "is not a parameter of this URL: options are fields of the body; only a data set is named here"
        raise InvalidRequestError(message, [FieldError(field=call.query[0][0], message=message)])
    if len(body) > _SEARCHED_BYTES or b'"recipe' in body:
        return None
    gold = _GOLD.findall(body)
    if gold not in ([], [b"true"], [b"false"]):
        return None
    if b"\\u00" in body and (_ESCAPED_LETTERS[0] in body or _ESCAPED_LETTERS[1] in body):
        return None
    recipe = call.recipes.get(call.settings.default_recipe)
    return ScoringOptions(recipe, gold=gold == [b"true"], all_golds=True)


def _job(body: ScoreRequest, call: Call) -> Job:
    settings = call.settings
    check_count(len(body.items), settings.max_items, "items")
    limits = ItemLimits(settings)
    limits.fits(None, "run", len(body.run or ""), settings.max_id_chars, "characters")
    recipe = call.recipes.get(body.recipe or settings.default_recipe, body.recipe_overrides)
    given = body.query_type_default or recipe.query_type_default
    return Job(
        entries=_entries(body.items, default_query_type(settings, given), limits),
        recipe=recipe,
        gold=body.gold,
        all_golds=True,
        explain=body.explain,
        on_item_error=body.on_item_error,
        run=body.run,
        step=body.step,
    )


def _entries(
    items: Sequence[Item], default: QueryTypeDefault, limits: ItemLimits
) -> Iterator[ScorableItem | InvalidItem]:
    """The items that are within the limits. Raises TooLargeError at the end if there are others."""
    for i, item in enumerate(items):
        if _fits(item, f"items.{i}", i, limits):
            yield scorable_item(item, default)
    limits.check()


def _fits(item: Item, path: str, i: int, limits: ItemLimits) -> bool:
    if not limits.references_fit(i, f"{path}.reference", item.reference):
        return False
    n_messages = 1 if isinstance(item.prompt, str) else len(item.prompt)
    if not limits.fits(i, f"{path}.prompt", n_messages, limits.settings.max_messages, "messages"):
        return False
    texts = [
        *prompt_texts(f"{path}.prompt", item.prompt),
        (f"{path}.response", item.response),
        *reference_texts(f"{path}.reference", item.reference),
    ]
    fits_id = limits.fits(i, f"{path}.id", len(item.id or ""), limits.settings.max_id_chars, "characters")
    return limits.texts_fit(i, texts) and fits_id


def _reply(reply: ScoreReply, _: Job, call: Call) -> ScoreReply:
    return in_version(reply, requested_version(call.headers))


PROTOCOL = ProtocolSpec(
    name="score",
    routes=[
        RouteSpec(
            "/score",
            "Score a batch of (prompt, response)",
            "One reward per item, in order, with its features and, with `explain`, the exact part of each factor. "
            "A request is scored whole or refused whole.",
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
