"""Scores of a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from reward_client.client import RewardClient
from reward_client.tables.columns import TEXTS, input_columns, whole_numbers
from reward_client.tables.scoring import ShowProgress, TableScorer, show_progress

if TYPE_CHECKING:
    import pandas


def score_frame(
    client: RewardClient,
    frame: pandas.DataFrame,
    *,
    prompt_column: str = "prompt",
    response_column: str = "response",
    reference_column: str | None = None,
    query_type_column: str | None = None,
    batch: int = 256,
    keep_going: bool = False,
    progress: ShowProgress | None = show_progress,
    **options: Any,
) -> pandas.DataFrame:
    """Score the rows of a DataFrame.

    Args:
        client: sends the requests.
        frame: is not changed.
        prompt_column: column with the prompts: text, or lists of messages.
        response_column: column with the responses.
        reference_column: column with the references; None: `reference`, if there is such a column.
        query_type_column: column with the query types; None: `query_type`, if there is such a column.
        batch: number of rows in a request.
        keep_going: give rows that cannot be scored an `error`, instead of raising for them.
        progress: is called after each batch; None: nothing is shown.
        options: those of `RewardClient.score`: recipe, gold, explain, query_type_default, …

    Returns a copy with the columns of the scores, and the same index. Raises TypeError for another table;
    ValueError for columns that do not fit and, before anything is sent, for rows that cannot be scored, counted
    from 0 as `frame.iloc` counts; RewardError when the service refuses a row or does not answer. That error, and
    the KeyboardInterrupt of Ctrl-C, has an attribute `scored`: the frame with the rewards that were received; the
    other rows have an `error`.
    """
    import pandas

    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"score_frame takes a pandas DataFrame, not a value of type {type(frame).__name__}")
    names = input_columns(list(frame.columns), prompt_column, response_column, reference_column, query_type_column)
    read, with_scores = partial(_rows, frame, names), partial(_with_columns, frame)
    scorer = TableScorer(client, read, len(frame), batch, keep_going, progress, options, with_scores)
    scored: pandas.DataFrame = scorer.table()
    return scored


def _rows(frame: pandas.DataFrame, names: Mapping[str, str], start: int, stop: int) -> dict[str, Sequence[Any]]:
    """The values of some rows, by field of an item; `names` has the column of each."""
    from pandas.api.types import is_float_dtype

    part = frame[list(dict.fromkeys(names.values()))].iloc[start:stop].astype(object)
    part = part.where(part.notna(), None)
    values = {field: part[name].tolist() for field, name in names.items()}
    floats = [field for field, name in names.items() if is_float_dtype(frame[name])]
    return values | {field: whole_numbers(values[field]) for field in floats}


def _with_columns(frame: pandas.DataFrame, columns: Mapping[str, list[Any]]) -> pandas.DataFrame:
    from pandas import Series

    types = {name: object if name in TEXTS else "float64" for name in columns}
    return frame.assign(
        **{name: Series(values, index=frame.index, dtype=types[name]) for name, values in columns.items()}
    )
