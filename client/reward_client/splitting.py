"""Splits a batch that exceeds the service's limits into parts, and joins the replies. Pure functions.

sizes, limits ──▶ split() ──▶ [0:3] [3:5] … consecutive, so that order is kept
replies ────────▶ join() ─▶ one ScoreReply, as for a single request
problem of a part, its first item ──▶ reindex() ──▶ the problem, with indices in the whole batch
"""

import re
from collections.abc import Sequence

from reward_client.errors import RewardError
from reward_client.wire import FieldError, LimitsInfo, Problem, ScoreReply, TextCounts, TimingMs

_ITEM_FIELD = re.compile(r"^(?:body\.)?items\.(\d+)\b")


def split(item_bytes: Sequence[int], envelope_bytes: int, limits: LimitsInfo) -> list[range]:
    """Consecutive ranges of items within `limits`, each as large as possible.

    Args:
        item_bytes: bytes of each item in the body.
        envelope_bytes: bytes of the body without items.
        limits: of the service. An item that exceeds them alone gets a separate range; the service will reject it.
    """
    parts: list[range] = []
    start, size = 0, envelope_bytes
    for index, item_size in enumerate(item_bytes):
        grown = size + item_size + 1  # and a comma
        if index > start and (index - start >= limits.max_items or grown > limits.max_body_bytes):
            parts.append(range(start, index))
            start, grown = index, envelope_bytes + item_size + 1
        size = grown
    return [*parts, range(start, len(item_bytes))]


def check_same_reward(first: ScoreReply, other: ScoreReply) -> None:
    """Raise RewardError when two parts were scored by different recipes or models."""
    if (other.recipe, other.models) != (first.recipe, first.models):
        raise RewardError(
            f"the service changed recipe or models within one batch: {first.recipe!r}, {first.models!r} became "
            f"{other.recipe!r}, {other.models!r}. Score the batch again."
        )


def join(replies: Sequence[ScoreReply]) -> ScoreReply:
    """The replies to consecutive parts as one reply.

    Parts are sent one after the other, so `timing_ms` is the sum over them, stage by stage.
    """
    first = replies[0]
    golds = [reply.timing_ms.gold for reply in replies if reply.timing_ms.gold is not None]
    return first.model_copy(
        update={
            "rewards": [reward for reply in replies for reward in reply.rewards],
            "results": [result for reply in replies for result in reply.results],
            "timing_ms": TimingMs(
                queue=sum(reply.timing_ms.queue for reply in replies),
                encode=sum(reply.timing_ms.encode for reply in replies),
                gold=sum(golds) if golds else None,
                total=sum(reply.timing_ms.total for reply in replies),
            ),
            "texts": TextCounts(
                cached=sum(reply.texts.cached for reply in replies),
                shared=sum(reply.texts.shared for reply in replies),
                encoded=sum(reply.texts.encoded for reply in replies),
            ),
            "notices": list(dict.fromkeys(notice for reply in replies for notice in reply.notices)),
        }
    )


def reindex(problem: Problem, first: int) -> Problem:
    """The problem of a part, with item indices in the whole batch; `first` is the part's first item."""
    return problem.model_copy(update={"errors": [_reindex_error(error, first) for error in problem.errors]})


def _reindex_error(error: FieldError, first: int) -> FieldError:
    def renumber(match: re.Match[str]) -> str:
        return match[0][: match.start(1)] + str(int(match[1]) + first)

    item = None if error.item is None else error.item + first
    return error.model_copy(update={"item": item, "field": _ITEM_FIELD.sub(renumber, error.field)})
