"""Items of a job before the models run: their text features, and what the models have to read.

`prepare` is steps, of an item or a few texts each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reward_client.wire import ItemError
from reward_service.batching import Steps, Unit
from reward_service.errors import TooLargeError
from reward_service.features.builtin import ALWAYS_REPORTED
from reward_service.features.factor import Factor
from reward_service.features.feature import (
    MAX_SENTENCES,
    Feature,
    FeatureError,
    GoldScore,
    PromptVectors,
    RecipeOnly,
    ReferenceVectors,
    ResponseText,
    SentenceVectors,
    VectorPair,
)
from reward_service.features.recipe import Recipe
from reward_service.features.sentences import sentences
from reward_service.features.text import prompt_text, read_response, words
from reward_service.models.protocols import Exchange, GoldModel, TextEncoder, Tokens
from reward_service.scoring.embedding import Embedder, LookUp
from reward_service.scoring.job import InvalidItem, Job, ScorableItem, reject_invalid_items
from reward_service.scoring.readability import unreadable_side

_MAX_SENTENCES = 65_536
"""Sentences that are embedded for one request; its memory is estimated from its body, which has few strings."""
_ALWAYS_MEASURED = tuple(feature for feature in ALWAYS_REPORTED if feature.needs is ResponseText)


@dataclass(frozen=True, slots=True)
class ModelFeature:
    """A feature that is computed from what the models make of an item."""

    feature: Feature[Any]
    texts: tuple[str, ...] = ()
    """To embed: the text that is compared and the response, or the sentences of the response."""


@dataclass(slots=True)
class PreparedItem:
    """A scorable item with everything that is known before the models run."""

    scorable: ScorableItem
    answer: str
    """The response that the gold model scores."""
    empty: bool
    values: dict[str, float | None] = field(default_factory=dict)
    """Values of the text features by name; None for those that do not apply."""
    flags: list[str] = field(default_factory=list)
    """Observations about the response, and of the text features."""
    error: FeatureError | None = None
    """That of the first feature that failed."""
    model_features: dict[str, ModelFeature] = field(default_factory=dict)
    """The features of the item's factors that the models are needed for, by name."""
    unreadable: set[str] = field(default_factory=set)
    """Names of those that compare texts which the encoder has no tokens for."""
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


def prepare(
    job: Job,
    entries: Sequence[ScorableItem | InvalidItem],
    embedder: Embedder | None,
    encoder: TextEncoder | None,
    gold: GoldModel | None,
) -> Steps[PreparedJob]:
    """Prepare the items of `job` for the models.

    Raises InvalidRequestError for those that lack an input, and TooLargeError for too many sentences.
    """
    items: list[PreparedItem | InvalidItem] = []
    texts: dict[str, None] = {}
    n_sentences = 0
    for entry in entries:
        if items:
            yield
        item = entry if isinstance(entry, InvalidItem) else _prepare_item(entry, job.recipe)
        if isinstance(item, PreparedItem):
            for needed in item.model_features.values():
                texts |= dict.fromkeys(needed.texts)
                n_sentences += len(needed.texts) if needed.feature.needs is SentenceVectors else 0
            if n_sentences > _MAX_SENTENCES:
                raise TooLargeError(f"the responses have more than {_MAX_SENTENCES} sentences; send fewer items")
        items.append(item)
    reject_invalid_items(job, items)
    look_up = (yield from embedder.look_up(encoder, texts)) if embedder and encoder else LookUp({}, {})
    items = yield from _with_readability(items, job.recipe, look_up)
    reject_invalid_items(job, items)
    units = (yield from _gold_units(gold, items)) if gold is not None else []
    return PreparedJob(items, look_up, units)


def _prepare_item(scorable: ScorableItem, recipe: Recipe) -> PreparedItem | InvalidItem:
    read = read_response(scorable.response, scorable.messages, recipe)
    counted = words(read.text, recipe.words)
    inputs = ResponseText(scorable.messages, read.text, counted, scorable.reference, recipe)
    item = PreparedItem(scorable, read.answer, read.is_empty, flags=list(read.flags))
    embedded, is_zero = read.relevance_text, item.empty and recipe.empty_is_zero
    try:
        for feature in _ALWAYS_MEASURED:
            _measure(feature, item, inputs)
        for factor in recipe.factors(scorable.query_type):
            option: Factor | None = factor
            while option is not None and not _applies(option.feature, item, inputs, embedded):
                option = option.otherwise
            if option is None and not is_zero:
                return _not_applicable(factor.feature, scorable)
    except FeatureError as exc:
        item.error = exc
    if is_zero:
        item.model_features = {name: f for name, f in item.model_features.items() if not f.texts}
    return item


def _applies(feature: Feature[Any], item: PreparedItem, inputs: ResponseText, response: str) -> bool:
    """Whether `feature` applies to `item`, to which its value is added, or what the models have to read for it.

    `response` is the text that is embedded.
    """
    if feature.needs is RecipeOnly:
        return True
    if feature.needs is ResponseText:
        if feature.name not in item.values:
            _measure(feature, item, inputs)
        return item.values[feature.name] is not None
    texts = _texts(feature, item.scorable, response)
    if texts is None:
        return False
    item.model_features[feature.name] = ModelFeature(feature, texts)
    return True


def _measure(feature: Feature[Any], item: PreparedItem, inputs: ResponseText) -> None:
    item.values[feature.name] = feature.value(inputs)
    if feature.flags is not None:
        item.flags += feature.observations(inputs)


def _texts(feature: Feature[Any], scorable: ScorableItem, response: str) -> tuple[str, ...] | None:
    """The texts that are embedded for `feature`; None if the item lacks one."""
    if feature.needs is GoldScore:
        return ()
    if feature.needs is SentenceVectors:
        return tuple(sentences(response, MAX_SENTENCES))
    if feature.needs is PromptVectors:
        return prompt_text(scorable.messages), response
    return (scorable.reference, response) if scorable.reference is not None else None


def _not_applicable(feature: Feature[Any], scorable: ScorableItem) -> InvalidItem:
    field = "reference" if feature.needs is ReferenceVectors else feature.applies_to
    if field == "reference" and scorable.reference is None:
        return InvalidItem(field, f"is needed by the feature {feature.name}", scorable.id)
    message = f"is of a kind that the feature {feature.name} does not apply to, and its factor has no `otherwise`"
    return InvalidItem(field, message, scorable.id)


def _with_readability(
    items: Sequence[PreparedItem | InvalidItem], recipe: Recipe, texts: LookUp
) -> Steps[list[PreparedItem | InvalidItem]]:
    """`items` with their unreadable features, or with the errors that the recipe makes of them."""
    checked: list[PreparedItem | InvalidItem] = []
    for item in items:
        if checked and recipe.needs_encoder:
            yield
        error = _mark_unreadable(item, recipe, texts) if isinstance(item, PreparedItem) else None
        checked.append(error or item)
    return checked


def _mark_unreadable(item: PreparedItem, recipe: Recipe, texts: LookUp) -> InvalidItem | None:
    for name, needed in item.model_features.items():
        if not issubclass(needed.feature.needs, VectorPair):
            continue
        text, response = needed.texts
        side = unreadable_side(text, response, texts)
        if side is None:
            continue
        item.unreadable.add(name)
        if recipe.unreadable_relevance == "error":
            compared = "prompt" if needed.feature.needs is PromptVectors else "reference"
            message = f"has characters that the encoder has no tokens for, so {name} cannot be read"
            return InvalidItem(compared if side == "text" else side, message, item.scorable.id)
    if item.unreadable:
        item.flags.append("relevance_unreadable")
    return None


def _gold_units(gold: GoldModel, items: Sequence[PreparedItem | InvalidItem]) -> Steps[list[Unit[Tokens]]]:
    """What `gold` has to score; each item keeps its part, or why there is none."""
    units: list[Unit[Tokens]] = []
    for item in items:
        if isinstance(item, PreparedItem):
            if units:
                yield
            item.exchange = _gold_unit(gold, item)
            if isinstance(item.exchange, Unit):
                units.append(item.exchange)
    return units


def _gold_unit(gold: GoldModel, item: PreparedItem) -> Unit[Tokens] | ItemError:
    exchange = Exchange(item.scorable.messages, item.answer)
    try:
        tokens = gold.tokenize(exchange)
    except ValueError as exc:
        return ItemError(field="response", message=f"the gold model cannot read this exchange: {exc}")
    return Unit(exchange, tokens, len(tokens.input_ids))
