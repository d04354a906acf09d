"""Results of the items of a job, once the models have run.

`item_results` is steps, of an item each. A value that is not finite becomes the item's error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from reward_client.wire import ItemError, ItemResult
from reward_service.batching import Steps, Unit
from reward_service.features.feature import FeatureError, GoldScore, PromptVectors, SentenceVectors, VectorPair
from reward_service.features.recipe import Recipe
from reward_service.scoring.embedding import TextVector
from reward_service.scoring.items import ModelFeature, PreparedItem, PreparedJob
from reward_service.scoring.job import InvalidItem
from reward_service.scoring.readability import UNREADABLE_SHARE

Vectors = Mapping[str, TextVector | Exception]
"""Of each text its embedding, or the encoder's error."""


class _FailedItemError(Exception):
    def __init__(self, name: str, cause: object) -> None:
        super().__init__(name, cause)
        self.error = ItemError(field=name, message=str(cause))


def item_results(
    job: PreparedJob, recipe: Recipe, vectors: Vectors, gold_outcomes: Iterable[float | Exception]
) -> Steps[list[ItemResult]]:
    """For each item its reward and features, or its error. `gold_outcomes` are those of the job's `units`."""
    outcomes = iter(gold_outcomes)
    results: list[ItemResult] = []
    for item in job.items:
        if results:
            yield
        if isinstance(item, InvalidItem):
            error = ItemError(field=item.field, message=item.message)
            results.append(ItemResult(reward=None, id=item.id, error=error))
            continue
        outcome = next(outcomes) if isinstance(item.exchange, Unit) else item.exchange
        results.append(_item_result(item, recipe, vectors, outcome))
    return results


def _item_result(
    item: PreparedItem, recipe: Recipe, vectors: Vectors, gold: float | Exception | ItemError | None
) -> ItemResult:
    scorable, empty = item.scorable, ["empty"] if item.empty else []
    try:
        score = _gold_score(gold)
        values, flags = _measured(item, recipe, vectors, score)
        reward = _reward(item, recipe, values)
    except _FailedItemError as failed:
        return ItemResult(reward=None, id=scorable.id, flags=list(scorable.flags), error=failed.error)
    return ItemResult(
        reward=reward,
        gold_reward=score,
        query_type=scorable.query_type,
        query_type_source=scorable.query_type_source,
        features={feature.name: values.get(feature.name) for feature in recipe.reported},
        flags=[*scorable.flags, *flags, *empty],
        id=scorable.id,
    )


def _gold_score(outcome: float | Exception | ItemError | None) -> float | None:
    if isinstance(outcome, ItemError):
        raise _FailedItemError(outcome.field, outcome.message)
    if isinstance(outcome, Exception):
        raise _FailedItemError("response", outcome)
    if outcome is not None and not math.isfinite(outcome):
        raise _FailedItemError("response", f"the gold model answered {outcome}, which is no score")
    return outcome


def _measured(
    item: PreparedItem, recipe: Recipe, vectors: Vectors, gold_score: float | None
) -> tuple[dict[str, float | None], list[str]]:
    """Values of the item's features by name, and the flags of its features."""
    if item.error is not None:
        raise _FailedItemError("response", item.error)
    values, flags = dict(item.values), list(item.flags)
    gold = GoldScore(gold_score) if gold_score is not None else None
    try:
        for name, needed in item.model_features.items():
            if name in item.unreadable and recipe.unreadable_relevance == "lowest":
                values[name] = recipe.lowest(needed.feature)
                continue
            inputs = gold if needed.feature.needs is GoldScore else _embedded(needed, recipe, vectors)
            values[name] = needed.feature.value(inputs)
            flags += needed.feature.observations(inputs)
    except FeatureError as exc:
        raise _FailedItemError("response", exc) from exc
    return values, flags


def _embedded(needed: ModelFeature, recipe: Recipe, vectors: Vectors) -> VectorPair | SentenceVectors:
    needs, texts = needed.feature.needs, needed.texts
    if needs is SentenceVectors:
        found = [(text, _vector(text, "response", vectors)) for text in texts]
        known = [(text, vector.values) for text, vector in found if _compares(vector, recipe)]
        rows = np.stack([row for _, row in known]) if known else np.zeros((0, 0), np.float32)
        return SentenceVectors([text for text, _ in known], rows, recipe)
    text, response = texts
    field = "prompt" if needs is PromptVectors else "reference"
    response_vector = _vector(response, "response", vectors)  # first, so that its error is the one reported
    inputs: VectorPair = needs(_vector(text, field, vectors).values, response_vector.values, recipe)
    return inputs


def _compares(sentence: TextVector, recipe: Recipe) -> bool:
    """Whether a sentence is compared with the others: two unreadable ones would seem to be the same."""
    return recipe.unreadable_relevance == "keep" or sentence.unknown_share < UNREADABLE_SHARE


def _vector(text: str, field: str, vectors: Vectors) -> TextVector:
    vector = vectors[text]
    if isinstance(vector, Exception):
        raise _FailedItemError(field, vector)
    return vector


def _reward(item: PreparedItem, recipe: Recipe, values: Mapping[str, float | None]) -> float:
    zero = item.empty and recipe.empty_is_zero
    try:
        reward = 0.0 if zero else recipe.combine(item.scorable.query_type, values)
    except FeatureError as exc:
        raise _FailedItemError("response", exc) from exc
    computed = [("reward", reward), *((name, value) for name, value in values.items() if value is not None)]
    broken = [name for name, value in computed if not math.isfinite(value)]
    if broken:
        raise _FailedItemError("response", f"{', '.join(broken)} is not a finite number")
    return reward
