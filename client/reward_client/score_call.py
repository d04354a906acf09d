"""What `RewardClient.score` sends: the request, and the route with the data set in its query."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from reward_client.errors import RewardError
from reward_client.given_items import GivenItem, checked_items
from reward_client.wire import DatasetMiss, OnItemError, QueryType, ScoreReply, ScoreRequest, usable_references

DATASET_FLAGS = {"dataset_hit", "dataset_miss"}
"""One of these is among the flags of each item that was looked up in a data set."""


def score_call(
    items: Iterable[GivenItem],
    *,
    dataset: str | None = None,
    dataset_miss: DatasetMiss | None = None,
    **options: Any,
) -> tuple[ScoreRequest, str]:
    """The request that `score` sends, and the route with its query.

    Args:
        items: what to score.
        dataset: a data set of the service, in which items without a reference find theirs, by their prompt.
        dataset_miss: what becomes of an item whose prompt is not in it: `fail`, the default, or `open_ended`.
        options: those of `score_request`.

    Raises TypeError and ValueError for wrong arguments.
    """
    if dataset is None and dataset_miss is not None:
        raise ValueError("dataset_miss needs dataset, the name of the data set")
    given = {"dataset": dataset, "dataset_miss": dataset_miss}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return score_request(items, **options), f"/score?{query}" if query else "/score"


def score_request(
    items: Iterable[GivenItem],
    *,
    recipe: str | None = None,
    recipe_overrides: Mapping[str, Any] | None = None,
    query_type_default: QueryType | None = None,
    gold: bool = False,
    explain: bool = False,
    on_item_error: OnItemError = "fail",
    run: str | None = None,
    step: int | None = None,
) -> ScoreRequest:
    """The request that `score` sends; the arguments are the fields of `wire.ScoreRequest`.

    It may have more items than the service accepts: `Operations.score` splits it. Raises TypeError and ValueError
    for items that are none, as `checked_items` does.
    """
    checked = checked_items(items)
    first = ScoreRequest(
        items=checked[:1],
        recipe=recipe,
        recipe_overrides=dict(recipe_overrides) if recipe_overrides else None,
        query_type_default=query_type_default,
        gold=gold,
        explain=explain,
        on_item_error=on_item_error,
        run=run,
        step=step,
    )
    return first.model_copy(update={"items": checked})


def check_dataset_is_read(path: str, reply: ScoreReply, request: ScoreRequest) -> None:
    """Raise RewardError if `path` names a data set, and the service scored an item without looking it up.

    Release 0.2.0 ignores the query of this route: it scores an item without a reference as open-ended.
    """
    if "?dataset=" not in path:
        return
    for index, (item, result) in enumerate(zip(request.items, reply.results, strict=True)):
        was_looked_up = not DATASET_FLAGS.isdisjoint(result.flags)
        if result.error is None and not was_looked_up and not usable_references(item.reference):
            raise RewardError(
                f"item {index} has no reference, and the service scored it without looking in the data set "
                "(flags dataset_hit and dataset_miss are missing): it is a release without data sets. Upgrade the "
                "service, or send references with the items"
            )
