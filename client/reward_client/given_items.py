"""Items as callers give them: `Item`, or mappings with its fields. All of them are checked before any is sent."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from reward_client.errors import validation_errors
from reward_client.rows import first_of
from reward_client.wire import Item

GivenItem = Item | Mapping[str, Any]
"""An item, or a mapping with its fields: prompt, response, and optionally reference, query_type, id."""

_FIELDS = tuple(Item.model_fields)


def checked_items(given: Iterable[GivenItem]) -> list[Item]:
    """The items, in order.

    Raises TypeError for an argument or an item of another type, ValueError that names each wrong item, counted
    from 0, with the field.
    """
    if isinstance(given, (str, bytes, Mapping, Item)) or not isinstance(given, Iterable):
        raise TypeError(f"items must be a list of items, not {_kind(given)}; a single item is [item]")
    if hasattr(given, "columns"):
        raise TypeError(f"items must be a list of items, not {_kind(given)}; reward_client.tables scores tables")
    items, wrong = [], []
    for index, one in enumerate(given):
        try:
            items.append(_item(index, one))
        except ValidationError as exc:
            wrong.append(f"item {index}: {'; '.join(validation_errors(exc))}")
        except ValueError as exc:
            wrong.append(f"item {index}: {exc}")
    if wrong:
        raise ValueError(first_of(wrong))
    return items


def _item(index: int, given: GivenItem) -> Item:
    if isinstance(given, Item):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f"item {index} must be an Item or a dict with prompt and response, not {_kind(given)}")
    unknown = [name for name in given if name not in _FIELDS]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), _FIELDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(_FIELDS)}"
        raise ValueError(f"{unknown[0]}: unknown field; {hint}")
    return Item.model_validate(dict(given))


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
