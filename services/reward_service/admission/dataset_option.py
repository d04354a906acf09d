"""`?dataset=NAME&dataset_miss=fail|open_ended` in the URL of any protocol: where items find their references."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from reward_client.wire import DatasetMiss
from reward_service.datasets.store import DatasetStore
from reward_service.errors import InvalidRequestError, UnknownDatasetError
from reward_service.protocols.base import URL_OPTIONS
from reward_service.scoring.references import ReferenceLookup

DATASET, MISS = "dataset", "dataset_miss"
PARAMETERS = (
    {
        "name": DATASET,
        "in": "query",
        "required": False,
        "description": "Data set in which items without a reference find theirs, by their prompt.",
        "schema": {"type": "string"},
    },
    {
        "name": MISS,
        "in": "query",
        "required": False,
        # Without `default`: pages would send it with requests that name no data set, which is an error.
        "description": "What becomes of an item whose prompt is not in it: an error (default), or open-ended.",
        "schema": {"enum": list(get_args(DatasetMiss))},
    },
)
"""The parameters in the OpenAPI document."""

Query = list[tuple[str, str]]


def references_in(
    query: Query, store: DatasetStore, caller: str
) -> tuple[Query, Callable[[], ReferenceLookup] | None]:
    """`query` without these parameters, and what opens the data set. Raises InvalidRequestError.

    Unknown data sets are found when it is opened, because that may read the disk.
    """
    own = [(name, value) for name, value in query if name in (DATASET, MISS)]
    if not own:
        return query, None
    given = dict(own)
    if len(given) < len(own):
        raise InvalidRequestError.in_field(own[0][0], "is repeated in the URL")
    if DATASET not in given:
        raise InvalidRequestError.in_field(MISS, f"needs {DATASET}=NAME in the URL")
    on_miss = given.get(MISS, "fail")
    if on_miss not in get_args(DatasetMiss):
        raise InvalidRequestError.in_field(MISS, f"must be {' or '.join(get_args(DatasetMiss))}")

    def opened() -> ReferenceLookup:
        try:
            dataset = store.find(caller, given[DATASET])
            return ReferenceLookup(dataset, on_miss, store.max_found_chars)  # type: ignore[arg-type]
        except UnknownDatasetError as exc:
            raise InvalidRequestError(str(exc), exc.errors) from exc

    return [pair for pair in query if pair not in own], opened


def refuse_options(query: Query) -> None:
    """Raise InvalidRequestError for a scoring option, or one of these, in the URL of a route of the gold model."""
    for name, _ in query:
        if name in URL_OPTIONS or name in (DATASET, MISS):
            message = "has no effect here: this route returns the gold model's scores, without a recipe"
            raise InvalidRequestError.in_field(name, message)
