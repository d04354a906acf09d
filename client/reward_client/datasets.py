"""Data sets of references that a service keeps: uploads, counts, removal.

rows of a file, or of the hub ─▶ dataset_row ─▶ put_dataset ─▶ DatasetInfo
                                 └─ ValueError that names the column
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from reward_client.client import RewardClient
from reward_client.operations import parsed
from reward_client.rows import none_for_nan
from reward_client.wire import DatasetInfo, DatasetList, DatasetRow, error_message, error_path


@dataclass(frozen=True, slots=True)
class Columns:
    """Column of the user's data for each field of a `DatasetRow`."""

    prompt: str = "prompt"
    reference: str = "reference"
    query_type: str = "query_type"

    @property
    def by_field(self) -> dict[str, str]:
        """Column by field."""
        return {"prompt": self.prompt, "reference": self.reference, "query_type": self.query_type}


def dataset_row(fields: Mapping[str, Any], columns: Columns) -> DatasetRow:
    """The row with the values in `columns`; NaN counts as missing. Raises ValueError that names the column."""
    if columns.prompt not in fields:
        raise ValueError(f"{columns.prompt}: is missing; the columns are {', '.join(list(fields)[:10])}")
    given = {field: fields.get(column) for field, column in columns.by_field.items()}
    try:
        return DatasetRow.model_validate({field: none_for_nan(v) for field, v in given.items()})
    except ValidationError as exc:
        field, *inner = error_path(exc.errors()[0])
        path = ".".join(map(str, [columns.by_field[str(field)], *inner]))
        raise ValueError(f"{path}: {error_message(exc.errors()[0])}") from exc


def put_dataset(
    client: RewardClient,
    name: str,
    rows: Iterable[tuple[int, DatasetRow]],
    columns: Columns = Columns(),
    **parameters: str,
) -> DatasetInfo:
    """Upload a data set, or replace it.

    Args:
        client: of the service; of several URLs one receives the data set.
        name: of the data set.
        rows: with ascending numbers, by which errors call them.
        columns: names of the fields in errors.
        parameters: `duplicates` and `query_type_default`.

    Raises:
        RewardError: the upload failed; a RewardRejectedError names the rows that are wrong.
    """
    lines, last = [], 0
    for number, row in rows:
        values = row.model_dump(mode="json", exclude_none=True)
        line = {column: values[field] for field, column in columns.by_field.items() if field in values}
        lines.append("\n" * (number - last - 1) + json.dumps(line, ensure_ascii=False))
        last = number
    query = urlencode({f"{field}_column": column for field, column in columns.by_field.items()} | parameters)
    path = f"/datasets/{quote(name, safe='')}?{query}"
    return parsed(DatasetInfo, client.request("PUT", path, "\n".join(lines).encode()))


def list_datasets(client: RewardClient) -> DatasetList:
    """The data sets of the client's API key. Raises RewardError."""
    return parsed(DatasetList, client.request("GET", "/datasets"))


def delete_dataset(client: RewardClient, name: str) -> None:
    """Remove a data set. Raises RewardError."""
    client.request("DELETE", f"/datasets/{quote(name, safe='')}")
