"""Work before the model queues: text features and tokens. CPU-bound: runs in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field

from reward_client.wire import (
    ItemError,
    ModelNames,
)
from reward_service.batching import Unit
from reward_service.features.builtin import length_incentive, repetition_penalty
from reward_service.features.recipe import Factor, Recipe
from reward_service.features.text import clean_response, prompt_text, words
from reward_service.models.protocols import Exchange, GoldModel, TextEncoder, Tokens
from reward_service.scoring.embedding import Embedder, LookUp
from reward_service.scoring.job import Job
from reward_service.scoring.validation import InvalidItem, ScorableItem

__all__ = ["PreparedItem", "PreparedJob", "prepare"]


@dataclass(slots=True)
class PreparedItem:
    """A candidate and what is known of it before any model has seen it."""

    candidate: ScorableItem
    values: dict[Factor, float]
    empty: bool
    pairs: dict[Factor, tuple[str, str]] = field(default_factory=dict)
    """Texts to compare, for each relevance that the recipe's branch uses."""


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job as far as it gets without a forward pass."""

    items: list[PreparedItem | InvalidItem]
    texts: LookUp
    exchanges: dict[int, Unit[Tokens] | ItemError]
    """What the gold model reads of each item, or why it cannot; by the item's index."""
    models: ModelNames

    @property
    def units(self) -> list[Unit[Tokens]]:
        """What the gold model reads, in the order of `exchanges`."""
        return [unit for unit in self.exchanges.values() if isinstance(unit, Unit)]


def prepare(
    job: Job, embedder: Embedder | None, encoder: TextEncoder | None, gold: GoldModel | None
) -> PreparedJob:
    """Everything that comes before the queues. For a thread."""
    items = [e if isinstance(e, InvalidItem) else _prepare_item(e, job.recipe) for e in job.entries]
    good = {i: item for i, item in enumerate(items) if isinstance(item, PreparedItem)}
    texts = dict.fromkeys(text for item in good.values() for pair in item.pairs.values() for text in pair)
    look_up = embedder.look_up(encoder, list(texts)) if embedder and encoder else LookUp({}, {})
    exchanges = {i: _read(gold, item.candidate) for i, item in good.items()} if gold else {}
    models = ModelNames(
        relevance=encoder.id if encoder else None,
        gold=gold.id if gold else None,
        relevance_revision=encoder.revision if encoder else None,
        gold_revision=gold.revision if gold else None,
    )
    return PreparedJob(items, look_up, exchanges, models)


def _prepare_item(candidate: ScorableItem, recipe: Recipe) -> PreparedItem:
    cut = clean_response(candidate.response, recipe.stop_strings)
    counted = words(cut if recipe.cut_response else candidate.response)
    values = {
        Factor.LENGTH_INCENTIVE: length_incentive(counted),
        Factor.REPETITION_PENALTY: repetition_penalty(counted),
    }
    item = PreparedItem(candidate, values, empty=not counted)
    if item.empty and recipe.empty_is_zero:
        return item
    response = cut if recipe.relevance_sees_cut_response else candidate.response
    factors = recipe.factors(candidate.query_type)
    if Factor.QUERY_RELEVANCE in factors:
        item.pairs[Factor.QUERY_RELEVANCE] = (prompt_text(candidate.messages), response)
    if Factor.REFERENCE_RELEVANCE in factors and candidate.reference is not None:
        item.pairs[Factor.REFERENCE_RELEVANCE] = (candidate.reference, response)
    return item


def _read(gold: GoldModel, candidate: ScorableItem) -> Unit[Tokens] | ItemError:
    exchange = Exchange(candidate.messages, candidate.response)
    try:
        tokens = gold.read(exchange)
    except ValueError as exc:
        return ItemError(field="response", message=f"the gold model cannot read this exchange: {exc}")
    return Unit(exchange, tokens, len(tokens))
