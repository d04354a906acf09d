"""Columns of a table: those that are read, and those of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reward_client.score_output import is_result_column
from reward_client.wire import ItemResult

TEXTS = ("query_type", "flags", "error")
"""Columns of the scores with text; the others have numbers."""
_PART = "part."
_MAX_WHOLE = 2**53
"""Above it a float does not have all digits of an integer."""


def input_columns(
    present: Sequence[Any], prompt: str, response: str, reference: str | None, query_type: str | None
) -> dict[str, str]:
    """Field of an item → the column that is read; None stands for a column of the field's name, if there is one.

    Raises ValueError for a column that is absent or repeated, and for one that the scores would replace.
    """
    named = {"prompt": prompt, "response": response, "reference": reference, "query_type": query_type}
    found = {field: name or field for field, name in named.items() if name is not None or field in present}
    for field, name in found.items():
        n_columns = list(present).count(name)
        if n_columns > 1:
            raise ValueError(f"the table has {n_columns} columns {name!r}; rename or drop all but one")
        if n_columns == 0:
            has = ", ".join(map(str, present)) or "none"
            raise ValueError(f"the table has no column {name!r}, its columns are {has}; set {field}_column")
    if taken := [name for name in map(str, present) if _is_written(name, found.get("query_type"))]:
        raise ValueError(f"the table has a column {taken[0]!r}, which would be replaced; rename or drop it")
    return found


def _is_written(name: str, query_type: str | None) -> bool:
    """Whether the scores would replace a column; `query_type` may be replaced if query types are read from it."""
    other = name == "query_type" != query_type
    return other or is_result_column(name) or name == "error" or name.startswith(_PART)


def whole_numbers(values: Sequence[Any]) -> list[Any]:
    """The values of a column of floats, whole numbers as integers.

    A column of integers with a missing value is one of floats in pandas: 391 would be sent as 391.0.
    """
    return [int(value) if _is_whole(value) else value for value in values]


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_WHOLE


class ScoreColumns:
    """The columns of the scores of `n_rows` rows; a value that was not set is None."""

    def __init__(self, n_rows: int, *, gold: bool) -> None:
        self._n_rows = n_rows
        names = ("reward", *(["gold_reward"] if gold else []), *TEXTS)
        self._columns: dict[str, list[Any]] = {name: [None] * n_rows for name in names}

    @property
    def columns(self) -> dict[str, list[Any]]:
        """By name, in the order of the table."""
        return {
            name: self._columns[name] for name in sorted(self._columns, key=lambda name: name.startswith(_PART))
        }

    def set_error(self, row: int, error: str, query_type: Any) -> None:
        """Set why a row has no reward, and the query type that it has in the input."""
        self._set(row, {"error": error, "query_type": None if query_type is None else str(query_type)})

    def set_result(self, row: int, result: ItemResult) -> None:
        """Set the reward of a row, and what is behind it."""
        values: dict[str, Any] = {"reward": result.reward, "flags": " ".join(result.flags)}
        if "gold_reward" in self._columns:
            values["gold_reward"] = result.gold_reward
            values |= {f"gold_reward.{name}": score for name, score in result.golds.items()}
        values["query_type"] = None if result.query_type is None else result.query_type.value
        self._set(row, values | {f"feature.{name}": value for name, value in result.features.items()})
        if result.attribution is not None:
            self._set(row, {f"{_PART}{name}": part for name, part in result.attribution.parts.items()})

    def _set(self, row: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._columns.setdefault(name, [None] * self._n_rows)[row] = value
