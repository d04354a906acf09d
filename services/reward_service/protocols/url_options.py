"""Scoring options in a URL, for protocols whose bodies have no fields for them.

    ?recipe=rer&gold=true&query_type_default=open_ended&max_response_tokens=128

`query_type_default=error`: a reference without a query type is an error, also where the protocol has a default.
Any other parameter overrides a parameter of the recipe.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from reward_client.wire import AnyQueryType, FieldError, QueryType
from reward_service.errors import InvalidRequestError
from reward_service.protocols.base import URL_OPTIONS, Body, Call, ScoringOptions
from reward_service.scoring.job import default_query_type

_BOOL: TypeAdapter[bool] = TypeAdapter(bool)
_QUERY_TYPE: TypeAdapter[Any] = TypeAdapter(AnyQueryType | Literal["error"])


def url_options(
    call: Call, _: Body, *, own: Collection[str] = (), query_type_default: QueryType | None = None
) -> ScoringOptions:
    """The options in the URL of `call`. Raises InvalidRequestError that names the parameter.

    Args:
        call: the request.
        own: parameters that the protocol reads itself.
        query_type_default: the default when neither the URL nor the recipe has one, without the classifier.
    """
    parameters = dict(call.query)
    if len(parameters) != len(call.query):
        raise InvalidRequestError(
            "a parameter is repeated in the URL", [FieldError(field="url", message="has a repeated parameter")]
        )
    other = URL_OPTIONS.union(own)
    overrides = {key: json_or_text(value) for key, value in parameters.items() if key not in other}
    recipe = call.recipes.get(parameters.get("recipe", call.settings.default_recipe), overrides)
    gold = _parameter("gold", _BOOL, parameters.get("gold", "false"))
    given = parameters.get("query_type_default")
    default = _parameter("query_type_default", _QUERY_TYPE, given) if given is not None else None
    if default == "error":
        return ScoringOptions(recipe, gold)
    chosen = default_query_type(call.settings, default or recipe.query_type_default, query_type_default)
    return ScoringOptions(recipe, gold, query_type_default=chosen)


label_options = partial(url_options, query_type_default=QueryType.CLOSED_ENDED)
"""For clients with one column for the answer: by default, a sample with a reference is closed-ended."""


def url_flag(call: Call, name: str) -> bool:
    """A parameter of a protocol that is on or off. Raises InvalidRequestError that names it."""
    flag: bool = _parameter(name, _BOOL, dict(call.query).get(name, "false"))
    return flag


def json_or_text(value: str) -> Any:
    """Numbers, lists, objects and null as JSON writes them; anything else is text."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _parameter(name: str, adapter: TypeAdapter[Any], value: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as exc:
        message = exc.errors()[0]["msg"]
        raise InvalidRequestError(
            f"{name}={value!r} in the URL: {message}", [FieldError(field=name, message=message)]
        ) from exc
