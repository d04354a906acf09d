"""Scores the items that the service accepts; a refused item has an error instead of a reward."""

import re
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any

from reward_client.client import RewardClient
from reward_client.errors import RewardError, RewardRejectedError
from reward_client.wire import Item, ItemError, ItemResult, ScoreReply

_ITEM = re.compile(r"\bitems\.\d+\.")


def without_index(field: str) -> str:
    """The field of an item in an error, `response` for `items.3.response`."""
    return _ITEM.sub("", field)


def score_each(
    client: RewardClient, items: Sequence[Item], **options: Any
) -> tuple[list[ItemResult], ScoreReply | None]:
    """The result of each item, and the reply; None when no item could be scored.

    A request with refused items is sent again without them. `options` are those of `RewardClient.score`. Raises
    RewardError for a failure that belongs to no item; its `partial` has refused items too.
    """
    refused: dict[int, ItemResult] = {}
    left = dict(enumerate(items))
    while left:
        try:
            reply = client.score(list(left.values()), **options | {"on_item_error": "report"})
        except RewardError as exc:
            errors = exc.errors_by_item if isinstance(exc, RewardRejectedError) else {}
            if not errors:
                if exc.partial is not None:
                    received = dict(zip(left, exc.partial.results, strict=False))
                    exc.partial = _with_refused(exc.partial, refused | received)
                raise
            sent = list(left)
            for index, error in errors.items():
                item = left.pop(sent[index])
                cause = ItemError(field=without_index(error.field), message=error.message)
                refused[sent[index]] = ItemResult(reward=None, id=item.id, error=cause)
            continue
        found = refused | dict(zip(left, reply.results, strict=True))
        return [found[index] for index in range(len(items))], reply
    return [refused[index] for index in range(len(items))], None


def _with_refused(partial: ScoreReply, found: Mapping[int, ItemResult]) -> ScoreReply:
    """`partial` with all results before the first item that `found` lacks."""
    results = [found[index] for index in takewhile(found.__contains__, count())]
    return partial.model_copy(update={"results": results, "rewards": [result.reward for result in results]})
