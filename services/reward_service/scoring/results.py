"""From model outputs to item results. A value that is not finite becomes the item's error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward_client.wire import FieldError, ItemError, ItemResult
from reward_service.batching import Submission
from reward_service.errors import ModelError
from reward_service.features.feature import Feature, FeatureError, GoldScore, PromptVectors, VectorPair
from reward_service.features.recipe import Recipe
from reward_service.scoring.embedding import Vector
from reward_service.scoring.job import Job
from reward_service.scoring.preparation import PreparedItem, PreparedJob
from reward_service.scoring.validation import InvalidItem

__all__ = ["GoldScores", "gold_scores", "item_result", "reject_failed_items"]


@dataclass(frozen=True, slots=True)
class GoldScores:
    """Score, or error, of each item by its index, and the time that the model took."""

    scores: Mapping[int, float | ItemError]
    queue_s: float = 0.0
    model_s: float = 0.0


def gold_scores(submission: Submission[float] | None, prepared: PreparedJob) -> GoldScores:
    """A score for every exchange that the model can read, and an error for every other one."""
    if submission is None:
        return GoldScores({})
    scores: dict[int, float | ItemError] = {
        i: exchange for i, exchange in prepared.exchanges.items() if isinstance(exchange, ItemError)
    }
    read = [i for i in prepared.exchanges if i not in scores]
    for i, outcome in zip(read, submission.outcomes, strict=True):
        scores[i] = _gold_score(outcome)
    return GoldScores(scores, submission.queue_s, submission.model_s)


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
    """The result of one item: its reward and features, or its error."""
    if isinstance(item, InvalidItem):
        return ItemResult(reward=None, id=item.id, error=ItemError(field=item.field, message=item.message))
    scorable = item.scorable
    try:
        score = _needed_score(gold_score)
        values = _values(item, recipe, vectors, score)
        reward = _reward(item, recipe, values)
    except _FailedItemError as failed:
        return ItemResult(reward=None, id=scorable.id, flags=list(scorable.flags), error=failed.error)
    return ItemResult(
        reward=reward,
        gold_reward=score,
        query_type=scorable.query_type,
        query_type_source=scorable.query_type_source,
        features={feature.name: values.get(feature.name) for feature in recipe.reported},
        flags=[*scorable.flags, *(["empty"] if item.empty else [])],
        id=scorable.id,
    )


class _FailedItemError(Exception):
    def __init__(self, field: str, cause: object) -> None:
        super().__init__(field, cause)
        self.error = ItemError(field=field, message=str(cause))


def _needed_score(gold_score: float | ItemError | None) -> float | None:
    if isinstance(gold_score, ItemError):
        raise _FailedItemError(gold_score.field, gold_score.message)
    return gold_score


def _values(
    item: PreparedItem, recipe: Recipe, vectors: Mapping[str, Vector | Exception], gold_score: float | None
) -> dict[str, float]:
    """Values of the item's features by name: text features first, then those computed from model outputs."""
    if isinstance(item.values, FeatureError):
        raise _FailedItemError("response", item.values)
    values = dict(item.values)
    query_type = item.scorable.query_type
    try:
        for feature in recipe.vector_features(query_type):
            if feature.name in item.pairs:
                values[feature.name] = feature.value(_vector_inputs(feature, item, recipe, vectors))
        if gold_score is not None:
            values |= {f.name: f.value(GoldScore(gold_score)) for f in recipe.gold_features(query_type)}
    except FeatureError as exc:
        raise _FailedItemError("response", exc) from exc
    return values


def _vector_inputs(
    feature: Feature[Any], item: PreparedItem, recipe: Recipe, vectors: Mapping[str, Vector | Exception]
) -> VectorPair:
    text, response = (vectors[side] for side in item.pairs[feature.name])
    if isinstance(response, Exception):
        raise _FailedItemError("response", response)
    if isinstance(text, Exception):
        raise _FailedItemError("prompt" if feature.needs is PromptVectors else "reference", text)
    inputs: VectorPair = feature.needs(text, response, recipe)
    return inputs


def _reward(item: PreparedItem, recipe: Recipe, values: Mapping[str, float]) -> float:
    zero = item.empty and recipe.empty_is_zero
    try:
        reward = 0.0 if zero else recipe.combine(item.scorable.query_type, values)
    except FeatureError as exc:
        raise _FailedItemError("response", exc) from exc
    broken = [name for name, value in [("reward", reward), *values.items()] if not math.isfinite(value)]
    if broken:
        raise _FailedItemError("response", f"{', '.join(broken)} is not a finite number")
    return reward


def reject_failed_items(job: Job, results: Sequence[ItemResult]) -> None:
    """Raise ModelError for the failed items of a job with `on_item_error="fail"`."""
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
