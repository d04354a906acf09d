"""Items of a job: their features and tokens before the models run, their results after.

Both functions are steps, of an item or a few texts each. A value that is not finite becomes the item's error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reward_client.wire import ItemError, ItemResult
from reward_service.batching import Steps, Unit
from reward_service.features.feature import (
    Feature,
    FeatureError,
    GoldScore,
    PromptVectors,
    ResponseText,
    VectorPair,
)
from reward_service.features.recipe import Recipe
from reward_service.features.text import clean_response, prompt_text, words
from reward_service.models.protocols import Exchange, GoldModel, TextEncoder, Tokens
from reward_service.scoring.embedding import Embedder, LookUp, Vector
from reward_service.scoring.job import InvalidItem, Job, ScorableItem, reject_invalid_items


@dataclass(slots=True)
class PreparedItem:
    """A scorable item with everything that is known before the models run."""

    scorable: ScorableItem
    values: dict[str, float] | FeatureError
    """Values of the text features, by name, or the error of the first that failed."""
    empty: bool
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Texts to embed for each vector feature of the item's branch: the text it compares, and the response."""
    exchange: Unit[Tokens] | ItemError | None = None
    """Input of the gold model, or why the model cannot read it; None if no gold score is needed."""


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job with everything that is known before a forward pass."""

    items: list[PreparedItem | InvalidItem]
    texts: LookUp
    """What the encoder needs."""
    units: list[Unit[Tokens]]
    """What the gold model needs, in the order of the items."""


# Before the models --------------------------------------------------------------------------------------------


def prepare(
    job: Job,
    entries: Sequence[ScorableItem | InvalidItem],
    embedder: Embedder | None,
    encoder: TextEncoder | None,
    gold: GoldModel | None,
) -> Steps[PreparedJob]:
    """Prepare the items of `job` for the models. Raises InvalidRequestError for those that lack an input."""
    items: list[PreparedItem | InvalidItem] = []
    texts: dict[str, None] = {}
    for entry in entries:
        if items:
            yield
        items.append(entry if isinstance(entry, InvalidItem) else _prepare_item(entry, job.recipe, texts))
    reject_invalid_items(job, items)
    look_up = (yield from embedder.look_up(encoder, texts)) if embedder and encoder else LookUp({}, {})
    units: list[Unit[Tokens]] = []
    for item in items:
        if gold is not None and isinstance(item, PreparedItem):
            if units:
                yield
            item.exchange = _gold_unit(gold, item.scorable)
            if isinstance(item.exchange, Unit):
                units.append(item.exchange)
    return PreparedJob(items, look_up, units)


def _prepare_item(scorable: ScorableItem, recipe: Recipe, texts: dict[str, None]) -> PreparedItem | InvalidItem:
    """The prepared item; the texts that it needs embedded are added to `texts`."""
    cut = clean_response(scorable.response, recipe.stop_strings)
    text = cut if recipe.cut_response else scorable.response
    inputs = ResponseText(scorable.messages, text, words(text), scorable.reference, recipe)
    query_type = scorable.query_type
    values: dict[str, float] | FeatureError
    try:
        values = _values(recipe.text_features[query_type], inputs)
    except FeatureError as exc:
        values = exc
    item = PreparedItem(scorable, values, empty=not inputs.words)
    if not (item.empty and recipe.empty_is_zero):
        response = cut if recipe.relevance_sees_cut_response else scorable.response
        for feature in recipe.vector_features[query_type]:
            if feature.needs is PromptVectors:
                item.pairs[feature.name] = (prompt_text(scorable.messages), response)
            elif scorable.reference is not None:
                item.pairs[feature.name] = (scorable.reference, response)
            else:
                return InvalidItem("reference", f"is needed by the feature {feature.name}", scorable.id)
            texts |= dict.fromkeys(item.pairs[feature.name])
    return item


def _gold_unit(gold: GoldModel, scorable: ScorableItem) -> Unit[Tokens] | ItemError:
    exchange = Exchange(scorable.messages, scorable.response)
    try:
        tokens = gold.tokenize(exchange)
    except ValueError as exc:
        return ItemError(field="response", message=f"the gold model cannot read this exchange: {exc}")
    return Unit(exchange, tokens, len(tokens.input_ids))


def _values(features: Sequence[Feature[Any]], inputs: object) -> dict[str, float]:
    """The value of each feature by name. Raises FeatureError when a `compute` fails."""
    values = {}
    for feature in features:
        try:
            values[feature.name] = float(feature.compute(inputs))
        except Exception as exc:
            raise FeatureError(f"feature {feature.name} failed: {type(exc).__name__}: {exc}") from exc
    return values


# After the models ---------------------------------------------------------------------------------------------


class _FailedItemError(Exception):
    def __init__(self, name: str, cause: object) -> None:
        super().__init__(name, cause)
        self.error = ItemError(field=name, message=str(cause))


def item_results(
    job: PreparedJob,
    recipe: Recipe,
    vectors: Mapping[str, Vector | Exception],
    gold_outcomes: Iterable[float | Exception],
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
    item: PreparedItem,
    recipe: Recipe,
    vectors: Mapping[str, Vector | Exception],
    gold: float | Exception | ItemError | None,
) -> ItemResult:
    scorable = item.scorable
    try:
        score = _gold_score(gold)
        values = _all_values(item, recipe, vectors, score)
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


def _gold_score(outcome: float | Exception | ItemError | None) -> float | None:
    if isinstance(outcome, ItemError):
        raise _FailedItemError(outcome.field, outcome.message)
    if isinstance(outcome, Exception):
        raise _FailedItemError("response", outcome)
    if outcome is not None and not math.isfinite(outcome):
        raise _FailedItemError("response", f"the gold model answered {outcome}, which is no score")
    return outcome


def _all_values(
    item: PreparedItem, recipe: Recipe, vectors: Mapping[str, Vector | Exception], gold_score: float | None
) -> dict[str, float]:
    """Values of the item's features by name: text features first, then those computed from model outputs."""
    if isinstance(item.values, FeatureError):
        raise _FailedItemError("response", item.values)
    values = dict(item.values)
    query_type = item.scorable.query_type
    try:
        for feature in recipe.vector_features[query_type]:
            if feature.name in item.pairs:
                values |= _values([feature], _vector_inputs(feature, item, recipe, vectors))
        if gold_score is not None:
            values |= _values(recipe.gold_features[query_type], GoldScore(gold_score))
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
