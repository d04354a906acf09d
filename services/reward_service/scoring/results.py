"""From model outputs to item results; a number that is not finite becomes the item's error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reward_client.wire import (
    Features,
    FieldError,
    ItemError,
    ItemResult,
)
from reward_service.batching import Submission
from reward_service.errors import InvalidRequestError, ModelError
from reward_service.features.builtin import similarity
from reward_service.features.recipe import Factor, Recipe
from reward_service.scoring.embedding import Vector
from reward_service.scoring.job import Job
from reward_service.scoring.preparation import PreparedItem, PreparedJob
from reward_service.scoring.validation import InvalidItem, ScorableItem

__all__ = ["GoldScores", "gold_scores", "item_result", "reject_failed_items", "reject_invalid_items"]


@dataclass(frozen=True, slots=True)
class GoldScores:
    scores: Mapping[int, float | ItemError]
    queue_s: float = 0.0
    model_s: float = 0.0


async def gold_scores(judging: Submission[float] | None, prepared: PreparedJob) -> GoldScores:
    """A score for every exchange that can be read; one that cannot costs the others nothing."""
    if judging is None:
        return GoldScores({})
    done = await judging.done()
    scores: dict[int, float | ItemError] = {
        i: exchange for i, exchange in prepared.exchanges.items() if isinstance(exchange, ItemError)
    }
    read = [i for i in prepared.exchanges if i not in scores]
    for i, outcome in zip(read, done.outcomes, strict=True):
        scores[i] = _gold_score(outcome)
    return GoldScores(scores, done.queue_s, done.model_s)


def _gold_score(outcome: float | Exception) -> float | ItemError:
    if isinstance(outcome, Exception):
        return ItemError(field="response", message=str(outcome))
    if not math.isfinite(outcome):
        return ItemError(field="response", message=f"the gold model answered {outcome}, which is no score")
    return outcome


def item_result(
    item: PreparedItem | InvalidItem,
    recipe: Recipe,
    vectors: Mapping[str, Vector | Exception],
    gold_score: float | ItemError | None,
) -> ItemResult:
    """Combine what is known of one item; a number that is not finite becomes the item's error."""
    if isinstance(item, InvalidItem):
        return ItemResult(reward=None, id=item.id, error=ItemError(field=item.field, message=item.message))
    candidate = item.candidate
    if isinstance(gold_score, ItemError):
        return _failed(candidate, gold_score)
    values = dict(item.values)
    for factor, pair in item.pairs.items():
        text, response = (vectors[side] for side in pair)
        if isinstance(text, Exception) or isinstance(response, Exception):
            return _failed(candidate, _encoder_error(factor, text, response))
        values[factor] = similarity(text, response, recipe.similarity)
    if gold_score is not None:
        values[Factor.GOLD] = gold_score
    zero = item.empty and recipe.empty_is_zero
    reward = 0.0 if zero else recipe.combine(candidate.query_type, values)
    broken = [name for name, value in [("reward", reward), *values.items()] if not math.isfinite(value)]
    if broken:
        message = f"{', '.join(broken)} is not a finite number"
        return _failed(candidate, ItemError(field="response", message=message))
    return ItemResult(
        reward=reward,
        gold_reward=gold_score,
        query_type=candidate.query_type,
        query_type_source=candidate.query_type_source,
        features=Features(**{name: values.get(Factor(name)) for name in Features.model_fields}),
        flags=[*candidate.flags, *(["empty"] if item.empty else [])],
        id=candidate.id,
    )


def _encoder_error(factor: Factor, text: Vector | Exception, response: Vector | Exception) -> ItemError:
    if isinstance(response, Exception):
        return ItemError(field="response", message=str(response))
    field_name = "prompt" if factor is Factor.QUERY_RELEVANCE else "reference"
    return ItemError(field=field_name, message=str(text))


def _failed(candidate: ScorableItem, error: ItemError) -> ItemResult:
    return ItemResult(reward=None, id=candidate.id, flags=list(candidate.flags), error=error)


def reject_invalid_items(job: Job) -> None:
    bad = [(i, entry) for i, entry in enumerate(job.entries) if isinstance(entry, InvalidItem)]
    if bad and job.on_item_error == "fail":
        errors = [FieldError(item=i, id=e.id, field=job.path(i, e.field), message=e.message) for i, e in bad]
        raise InvalidRequestError(f"{len(bad)} of {len(job.entries)} items cannot be scored", errors)


def reject_failed_items(job: Job, results: Sequence[ItemResult]) -> None:
    if job.on_item_error == "report":
        return
    errors = [
        FieldError(item=i, id=r.id, field=job.path(i, r.error.field), message=r.error.message)
        for i, r in enumerate(results)
        if r.error is not None
    ]
    if errors:
        first = f"{errors[0].field}: {errors[0].message}"
        raise ModelError(f"{len(errors)} of {len(results)} items have no reward; the first: {first}", errors)
