"""Items of a job before the models run: their text features, and what the models have to read.

`prepare` is steps, of an item or a few texts each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import methodcaller
from typing import Any

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
from reward_service.models.protocols import Exchange, GoldModel, TextEncoder, Tokens, UnreadablePromptError
from reward_service.scoring.embedding import Embedder, LookUp
from reward_service.scoring.job import InvalidItem, Job, ScorableItem, reject_invalid_items
from reward_service.scoring.text_features import Measured, TextFeatures
from reward_service.settings import MAX_REQUEST_SENTENCES

_ALWAYS_MEASURED = tuple(feature for feature in ALWAYS_REPORTED if feature.needs is ResponseText)

Measure = Callable[[Feature[Any]], Measured]
"""Measures a text feature of one item. Raises FeatureError."""


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
    exchanges: list[Unit[Tokens]] = field(default_factory=list)
    """Input of each gold model, the primary one first; empty if no gold score is needed."""
    by_reference: list[tuple[int, PreparedItem]] = field(default_factory=list)
    """The item with each of its references, by index, if there are several and the reward depends on them."""

    @property
    def variants(self) -> list[PreparedItem]:
        """Those items."""
        return [item for _, item in self.by_reference]


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job with everything that is known before a forward pass."""

    items: list[PreparedItem | InvalidItem]
    texts: LookUp
    """What the encoder needs."""
    units: list[list[Unit[Tokens]]]
    """What each gold model needs, in the order of the items."""


def prepare(
    job: Job,
    entries: Sequence[ScorableItem | InvalidItem],
    embedder: Embedder | None,
    encoder: TextEncoder | None,
    golds: Mapping[str, GoldModel],
) -> Steps[PreparedJob]:
    """Prepare the items of `job` for the models; the keys of `golds` name them in messages.

    Raises InvalidRequestError for those that lack an input, and TooLargeError for too many sentences.
    """
    items: list[PreparedItem | InvalidItem] = []
    texts: dict[str, None] = {}
    n_sentences = 0
    for entry in entries:
        if items:
            yield
        item = entry if isinstance(entry, InvalidItem) else (yield from _prepare_item(entry, job.recipe))
        if isinstance(item, PreparedItem):
            needed = [one for each in (item, *item.variants) for one in each.model_features.values()]
            texts |= dict.fromkeys(text for one in needed for text in one.texts)
            n_sentences += max(
                (len(one.texts) for one in needed if one.feature.needs is SentenceVectors), default=0
            )
            if n_sentences > MAX_REQUEST_SENTENCES:
                message = f"the responses have more than {MAX_REQUEST_SENTENCES} sentences; send fewer items"
                raise TooLargeError(message)
        items.append(item)
    reject_invalid_items(job, items)
    look_up = LookUp({}, {})
    if embedder is not None and encoder is not None:
        look_up = yield from embedder.look_up(encoder, texts)
        items = yield from _with_readability(items, look_up, job.recipe)
        reject_invalid_items(job, items)
    for label, gold in golds.items():
        yield from _prepare_for_gold(items, gold, label)
        reject_invalid_items(job, items)
    prepared = [item for item in items if isinstance(item, PreparedItem)]
    units = [[item.exchanges[n] for item in prepared] for n in range(len(golds))]
    return PreparedJob(items, look_up, units)


def _prepare_item(scorable: ScorableItem, recipe: Recipe) -> Steps[PreparedItem | InvalidItem]:
    read = read_response(scorable.response, scorable.messages, recipe)
    counted = words(read.text, recipe.words)
    inputs = ResponseText(scorable.messages, read.text, counted, scorable.reference, recipe)
    item = PreparedItem(scorable, read.answer, read.is_empty, flags=list(read.flags))
    if not scorable.alternatives:
        return _with_factors(item, methodcaller("measure", inputs), read.relevance_text, recipe)
    texts = TextFeatures(inputs)
    first = _with_factors(item, texts.measure, read.relevance_text, recipe)
    if isinstance(first, InvalidItem) or not (texts.read_reference or _compares_reference(first)):
        return first
    for index, reference in scorable.alternatives:
        yield
        other = replace(scorable, reference=reference)
        one = PreparedItem(other, read.answer, read.is_empty, flags=list(read.flags))
        prepared = _with_factors(one, texts.with_reference(reference).measure, read.relevance_text, recipe)
        if isinstance(prepared, InvalidItem):
            return prepared
        first.by_reference.append((index, prepared))
    return first


def _compares_reference(item: PreparedItem) -> bool:
    return any(needed.feature.needs is ReferenceVectors for needed in item.model_features.values())


def _with_factors(
    item: PreparedItem, measure: Measure, embedded: str, recipe: Recipe
) -> PreparedItem | InvalidItem:
    """`item` with the features of its factors; `embedded` is the text that the encoder reads."""
    is_zero = item.empty and recipe.empty_is_zero
    try:
        for feature in _ALWAYS_MEASURED:
            _add_measured(feature, item, measure)
        for factor in recipe.factors(item.scorable.query_type):
            option: Factor | None = factor
            while option is not None and not _applies(option.feature, item, measure, embedded):
                option = option.otherwise
            if option is None and not is_zero:
                return _not_applicable(factor.feature, item.scorable)
    except FeatureError as exc:
        item.error = exc
    if is_zero:
        item.model_features = {name: f for name, f in item.model_features.items() if not f.texts}
    return item


def _applies(feature: Feature[Any], item: PreparedItem, measure: Measure, response: str) -> bool:
    """Whether `feature` applies to `item`, to which its value is added, or what the models have to read for it.

    `response` is the text that is embedded.
    """
    if feature.needs is RecipeOnly:
        return True
    if feature.needs is ResponseText:
        if feature.name not in item.values:
            _add_measured(feature, item, measure)
        return item.values[feature.name] is not None
    texts = _texts(feature, item.scorable, response)
    if texts is None:
        return False
    item.model_features[feature.name] = ModelFeature(feature, texts)
    return True


def _add_measured(feature: Feature[Any], item: PreparedItem, measure: Measure) -> None:
    item.values[feature.name], flags = measure(feature)
    item.flags += flags


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
    items: Sequence[PreparedItem | InvalidItem], texts: LookUp, recipe: Recipe
) -> Steps[list[PreparedItem | InvalidItem]]:
    """`items` with their unreadable features, or with the errors that the recipe makes of them."""
    checked: list[PreparedItem | InvalidItem] = []
    for item in items:
        if checked:
            yield
        errors: list[InvalidItem | None] = []
        if isinstance(item, PreparedItem):
            errors = [_mark_unreadable(one, recipe, texts) for one in (item, *item.variants)]
        checked.append(next(filter(None, errors), item))
    return checked


def _mark_unreadable(item: PreparedItem, recipe: Recipe, texts: LookUp) -> InvalidItem | None:
    for name, needed in item.model_features.items():
        if not issubclass(needed.feature.needs, VectorPair):
            continue
        text, response = needed.texts
        side = texts.unreadable_side(text, response)
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


def _prepare_for_gold(items: list[PreparedItem | InvalidItem], gold: GoldModel, label: str) -> Steps[None]:
    """Add the gold model's input to each item, and make those that it cannot read InvalidItems."""
    for number, item in enumerate(items):
        if isinstance(item, PreparedItem):
            yield
            items[number] = _with_exchange(item, gold, label)


def _with_exchange(item: PreparedItem, gold: GoldModel, label: str) -> PreparedItem | InvalidItem:
    exchange = Exchange(item.scorable.messages, item.answer)
    try:
        tokens = gold.tokenize(exchange)
    except ValueError as exc:
        field = "prompt" if isinstance(exc, UnreadablePromptError) else "response"
        return InvalidItem(field, f"the {label} cannot read this exchange: {exc}", item.scorable.id)
    item.exchanges.append(Unit(exchange, tokens, len(tokens.input_ids)))
    return item
