"""The work before the model queues: text features and tokens. CPU-bound, so it runs in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field

from reward_client.wire import ItemError, ModelNames, QueryType
from reward_service.batching import Unit
from reward_service.features.feature import FeatureError, PromptVectors, ResponseText
from reward_service.features.recipe import Recipe
from reward_service.features.text import clean_response, prompt_text, words
from reward_service.models.protocols import Exchange, GoldModel, TextEncoder, Tokens
from reward_service.scoring.embedding import Embedder, LookUp
from reward_service.scoring.job import InvalidItem, Job, ScorableItem, reject_invalid_items

__all__ = ["PreparedItem", "PreparedJob", "prepare"]


@dataclass(slots=True)
class PreparedItem:
    """A scorable item with everything that is known before the models run."""

    scorable: ScorableItem
    values: dict[str, float] | FeatureError
    """Values of the text features, by name, or the error of the first that failed."""
    empty: bool
    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Texts to embed for each vector feature of the item's branch: the text it compares, and the response."""


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job with everything that is known before a forward pass."""

    items: list[PreparedItem | InvalidItem]
    texts: LookUp
    exchanges: dict[int, Unit[Tokens] | ItemError]
    """Input of the gold model for each item, or why the model cannot read it; by the item's index."""
    models: ModelNames

    @property
    def units(self) -> list[Unit[Tokens]]:
        """The gold model's inputs, in the order of `exchanges`."""
        return [unit for unit in self.exchanges.values() if isinstance(unit, Unit)]


def prepare(
    job: Job, embedder: Embedder | None, encoder: TextEncoder | None, gold: GoldModel | None
) -> PreparedJob:
    """Prepare `job` for the models it needs. Call it in a thread. Raises InvalidRequestError."""
    items = [e if isinstance(e, InvalidItem) else _prepare_item(e, job.recipe) for e in job.entries]
    reject_invalid_items(job, items)
    good = {i: item for i, item in enumerate(items) if isinstance(item, PreparedItem)}
    texts = dict.fromkeys(text for item in good.values() for pair in item.pairs.values() for text in pair)
    look_up = embedder.look_up(encoder, list(texts)) if embedder and encoder else LookUp({}, {})
    exchanges = {i: _gold_unit(gold, item.scorable) for i, item in good.items()} if gold else {}
    models = ModelNames(
        relevance=encoder.id if encoder else None,
        gold=gold.id if gold else None,
        relevance_revision=encoder.revision if encoder else None,
        gold_revision=gold.revision if gold else None,
    )
    return PreparedJob(items, look_up, exchanges, models)


def _prepare_item(scorable: ScorableItem, recipe: Recipe) -> PreparedItem | InvalidItem:
    cut = clean_response(scorable.response, recipe.stop_strings)
    text = cut if recipe.cut_response else scorable.response
    inputs = ResponseText(scorable.messages, text, words(text), scorable.reference, recipe)
    item = PreparedItem(scorable, _text_values(inputs, recipe, scorable.query_type), empty=not inputs.words)
    if item.empty and recipe.empty_is_zero:
        return item
    response = cut if recipe.relevance_sees_cut_response else scorable.response
    for feature in recipe.vector_features(scorable.query_type):
        if feature.needs is PromptVectors:
            item.pairs[feature.name] = (prompt_text(scorable.messages), response)
        elif scorable.reference is not None:
            item.pairs[feature.name] = (scorable.reference, response)
        else:
            return InvalidItem("reference", f"is needed by the feature {feature.name}", scorable.id)
    return item


def _text_values(inputs: ResponseText, recipe: Recipe, query_type: QueryType) -> dict[str, float] | FeatureError:
    try:
        return {feature.name: feature.value(inputs) for feature in recipe.text_features(query_type)}
    except FeatureError as exc:
        return exc


def _gold_unit(gold: GoldModel, scorable: ScorableItem) -> Unit[Tokens] | ItemError:
    exchange = Exchange(scorable.messages, scorable.response)
    try:
        tokens = gold.tokenize(exchange)
    except ValueError as exc:
        return ItemError(field="response", message=f"the gold model cannot read this exchange: {exc}")
    return Unit(exchange, tokens, len(tokens))
