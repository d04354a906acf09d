"""Results of the items of a job, once the models have run.

`item_results` is steps, of an item each. A value that is not finite becomes the item's error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reward_client.wire import Attribution, ItemError, ItemResult
from reward_service.batching import Steps
from reward_service.errors import ModelError
from reward_service.features.attribution import attribution
from reward_service.features.feature import FeatureError, GoldScore, PromptVectors, SentenceVectors, VectorPair
from reward_service.features.ranges import marked_ranges
from reward_service.features.recipe import Recipe
from reward_service.scoring.embedding import UNREADABLE_SHARE, TextVector
from reward_service.scoring.items import ModelFeature, PreparedItem, PreparedJob
from reward_service.scoring.job import InvalidItem

_RANGES_OF_ITEM = 1_000
_RANGES_OF_REQUEST = 16 * 1024
"""Ranges of one kind in attributions, at most: a response of a few kilobytes can have a thousand."""

Vectors = Mapping[str, TextVector | Exception]
"""Of each text its embedding, or the encoder's error."""


class _FailedItemError(Exception):
    def __init__(self, name: str, cause: object) -> None:
        super().__init__(name, cause)
        self.error = ItemError(field=name, message=str(cause))


def item_results(
    job: PreparedJob,
    recipe: Recipe,
    vectors: Vectors,
    gold_outcomes: Sequence[Iterable[float | Exception]],
    labels: Sequence[str] = (),
    golds: Sequence[str] = (),
    *,
    explain: bool = False,
) -> Steps[list[ItemResult]]:
    """For each item its reward and features, or its error.

    `gold_outcomes` are those of the job's `units`: one sequence a gold model, the primary one first; `labels`
    name these models in messages; `golds` are their ids, if there are several.
    """
    outcomes = zip(*gold_outcomes, strict=True)
    n_ranges = min(_RANGES_OF_ITEM, _RANGES_OF_REQUEST // max(1, len(job.items))) if explain else None
    results: list[ItemResult] = []
    for item in job.items:
        if results:
            yield
        if isinstance(item, InvalidItem):
            error = ItemError(field=item.field, message=item.message)
            results.append(ItemResult(reward=None, id=item.id, error=error))
            continue
        scores = zip(next(outcomes), labels, strict=True) if item.exchanges else ()
        found = [_gold_outcome(outcome, label) for outcome, label in scores]
        gold_flags = list(dict.fromkeys(flag for unit in item.exchanges for flag in unit.value.flags))
        result = _item_result(item, recipe, vectors, found[0] if found else None, n_ranges)
        if golds and result.error is None:
            result = _with_golds(result, dict(zip(golds, found, strict=True)))
        results.append(result.model_copy(update={"flags": [*result.flags, *gold_flags]}) if gold_flags else result)
    return results


def _with_golds(result: ItemResult, outcomes: Mapping[str, float | Exception]) -> ItemResult:
    """`result` with the scores of several gold models, by id; an error if one of them has none."""
    try:
        scores = {name: _gold_score(outcome) for name, outcome in outcomes.items()}
    except _FailedItemError as failed:
        return ItemResult(reward=None, id=result.id, flags=result.flags, error=failed.error)
    return result.model_copy(update={"golds": scores})


def _item_result(
    item: PreparedItem, recipe: Recipe, vectors: Vectors, gold: float | Exception | None, n_ranges: int | None
) -> ItemResult:
    """The result of an item; of one with several references, that with the highest reward, and which it is.

    If one of them failed, so has the item: that reference might have been the best.
    """
    if not item.by_reference:
        return _single_result(item, recipe, vectors, gold, n_ranges)
    rewards: list[float] = []
    for one in item.variants:
        result = _single_result(one, recipe, vectors, gold, None)
        if result.reward is None:
            return result
        rewards.append(result.reward)
    index, best = item.by_reference[rewards.index(max(rewards))]
    result = _single_result(best, recipe, vectors, gold, n_ranges)
    return result.model_copy(update={"flags": [*result.flags, f"best_reference_{index}"]})


def _single_result(
    item: PreparedItem, recipe: Recipe, vectors: Vectors, gold: float | Exception | None, n_ranges: int | None
) -> ItemResult:
    """The result, with an attribution unless `n_ranges` is None."""
    scorable, empty = item.scorable, ["empty"] if item.empty else []
    try:
        score = _gold_score(gold)
        values, flags = _measured(item, recipe, vectors, score)
        reward = _reward(item, recipe, values)
        parts = None if n_ranges is None else _attribution(item, recipe, values, n_ranges)
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
        attribution=parts,
    )


def _gold_outcome(outcome: float | Exception, label: str) -> float | Exception:
    """`outcome`, or the error of a number that is no score."""
    if isinstance(outcome, Exception) or math.isfinite(outcome):
        return outcome
    return ModelError(f"the {label} answered {outcome}, which is no score")


def _gold_score(outcome: float | Exception | None) -> float | None:
    if isinstance(outcome, Exception):
        raise _FailedItemError("response", outcome)
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
            values[name], observed = needed.feature.measure(inputs)
            flags += observed
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
    try:
        reward = 0.0 if _earns_zero(item, recipe) else recipe.combine(item.scorable.query_type, values)
    except FeatureError as exc:
        raise _FailedItemError("response", exc) from exc
    computed = [("reward", reward), *((name, value) for name, value in values.items() if value is not None)]
    broken = [name for name, value in computed if not math.isfinite(value)]
    if broken:
        raise _FailedItemError("response", f"{', '.join(broken)} is not a finite number")
    return reward


def _attribution(
    item: PreparedItem, recipe: Recipe, values: Mapping[str, float | None], n_ranges: int
) -> Attribution:
    factors = recipe.factors(item.scorable.query_type)
    try:
        parts = attribution(factors, values, empty=_earns_zero(item, recipe))
    except FeatureError as exc:
        raise _FailedItemError("response", exc) from exc
    ranges = marked_ranges(item.scorable.response, item.scorable.messages, recipe, n_ranges)
    return parts.model_copy(update=ranges._asdict())


def _earns_zero(item: PreparedItem, recipe: Recipe) -> bool:
    """Whether the reward is 0 whatever the factors are."""
    return item.empty and recipe.empty_is_zero
