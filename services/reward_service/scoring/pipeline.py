"""The pipeline on one page: prepare → admit → embed and judge → combine.

    job.entries ──▶ prepare (features and tokens, in a thread) ──▶ admit ─┬▶ embed (unique texts) ─┐
                                                                          └▶ gold (exchanges)     ─┴▶ combine

Both models admit a job in one step, or neither does. They work at the same time. Nothing here knows HTTP, and
nothing here invents a number: an item that a model failed on, or whose arithmetic is not finite, gets an error.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from reward_client.wire import (
    Features,
    FieldError,
    ItemError,
    ItemResult,
    ModelNames,
    OnItemError,
    RecipeName,
    ScoreReply,
    TextCounts,
    TimingMs,
)
from reward_service.batching import ModelWorker, Submission, Unit
from reward_service.errors import InvalidRequestError, ModelError
from reward_service.features.builtin import length_incentive, repetition_penalty, similarity
from reward_service.features.recipe import Factor, Recipe
from reward_service.features.text import clean_response, prompt_text, words
from reward_service.models.gold import shared_base_notice
from reward_service.models.protocols import Exchange, GoldModel, TextEncoder, Tokens
from reward_service.scoring.embedding import Embedded, Embedder, Embedding, EncoderWorker, LookUp, Vector
from reward_service.scoring.validation import InvalidItem, ScorableItem

__all__ = ["GoldWorker", "Job", "Scorer", "Scoring"]

GoldWorker = ModelWorker[GoldModel, Tokens, float]


def _item_path(index: int, name: str) -> str:
    return f"items.{index}.{name}"


@dataclass(frozen=True, slots=True)
class Job:
    """What one request wants scored."""

    entries: Sequence[ScorableItem | InvalidItem]
    """In the caller's order; what could not become a candidate is its own error."""
    recipe: Recipe
    gold: bool = False
    """Whether the caller wants gold scores beside the rewards."""
    on_item_error: OnItemError = "fail"
    path: Callable[[int, str], str] = _item_path
    """How the caller's protocol calls a field of item i, for errors."""

    @property
    def wants_gold(self) -> bool:
        """Whether the gold model has to score: asked for, or part of the reward."""
        return self.gold or self.recipe.needs_gold


@dataclass(slots=True)
class _Item:
    """A candidate and what is known of it before any model has seen it."""

    candidate: ScorableItem
    values: dict[Factor, float]
    empty: bool
    pairs: dict[Factor, tuple[str, str]] = field(default_factory=dict)
    """Texts to compare, for each relevance that the recipe's branch uses."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A job as far as it gets without a forward pass."""

    items: list[_Item | InvalidItem]
    texts: LookUp
    exchanges: dict[int, Unit[Tokens] | ItemError]
    """What the gold model reads of each item, or why it cannot; by the item's index."""
    models: ModelNames

    @property
    def units(self) -> list[Unit[Tokens]]:
        """What the gold model reads, in the order of `exchanges`."""
        return [unit for unit in self.exchanges.values() if isinstance(unit, Unit)]


@dataclass(frozen=True, slots=True)
class _Judged:
    scores: Mapping[int, float | ItemError]
    queue_s: float = 0.0
    model_s: float = 0.0


class Scorer:
    """Scores jobs with the models it was given; None stands for a model that the operator switched off."""

    def __init__(self, embedder: Embedder | None, gold: GoldWorker | None) -> None:
        self._embedder = embedder
        self._gold = gold

    def start(self, job: Job) -> Scoring:
        """`job`, on its way. Raises InvalidRequestError for entries, or models, that it cannot be scored with."""
        _refuse_bad_entries(job)
        embedder, gold = self.models_for(job)
        return Scoring(job, embedder, gold, self.notices)

    @property
    def workers(self) -> list[EncoderWorker | GoldWorker]:
        """Those of all models that there are."""
        return _workers(self._embedder, self._gold)

    async def score(self, job: Job) -> ScoreReply:
        """Score a job. Raises InvalidRequestError, ModelError, NotReadyError or OverloadedError."""
        with closing(self.start(job)) as scoring:
            await scoring.admit()
            return await scoring.finish()

    def notices(self) -> list[str]:
        """What readers of this service's gold scores must know."""
        gold = self._gold.model if self._gold else None
        if gold is None:
            return []
        encoder = self._embedder.worker.model if self._embedder else None
        shared = shared_base_notice(gold, encoder.id) if encoder else None
        return [*gold.notices, shared] if shared else list(gold.notices)

    def models_for(self, job: Job) -> tuple[Embedder | None, GoldWorker | None]:
        """The models that `job` needs. Raises InvalidRequestError when the service lacks one."""
        recipe = job.recipe
        if recipe.needs_encoder and self._embedder is None:
            raise InvalidRequestError(
                f"recipe {recipe.name!r} needs a relevance encoder and this service has none; "
                "start it with --encoder, or choose a recipe without relevance",
                [FieldError(field="recipe", message="needs a relevance encoder, which this service lacks")],
            )
        if job.wants_gold and self._gold is None:
            name = "recipe" if recipe.needs_gold else "gold"
            raise InvalidRequestError(
                "a gold score was asked for, and this service has no gold model; start it with --gold",
                [FieldError(field=name, message="needs a gold model, which this service lacks")],
            )
        return self._embedder if recipe.needs_encoder else None, self._gold if job.wants_gold else None


class Scoring:
    """A job on its way: admitted, by another try after a refusal if need be; finished; closed in any case."""

    def __init__(
        self, job: Job, embedder: Embedder | None, gold: GoldWorker | None, notices: Callable[[], list[str]]
    ) -> None:
        self._job = job
        self._embedder = embedder
        self._gold = gold
        self._notices = notices
        self._started = time.monotonic()
        self._prepared: _Prepared | None = None
        self._embedding: Embedding | None = None
        self._judging: Submission[float] | None = None

    async def loaded(self) -> None:
        """Return once the models are loaded. Raises NotReadyError when one cannot be."""
        for worker in _workers(self._embedder, self._gold):
            await worker.loaded()

    async def admit(self) -> None:
        """Put the work into the models' queues, all of it or none. Raises NotReadyError or OverloadedError."""
        for worker in _workers(self._embedder, self._gold):
            worker.check()  # before the work of preparing
        if self._prepared is None:
            encoder = self._embedder.worker.model if self._embedder else None
            gold = self._gold.model if self._gold else None
            self._prepared = await asyncio.to_thread(_prepare_all, self._job, self._embedder, encoder, gold)
        texts, units = self._prepared.texts, self._prepared.units
        if self._embedder is not None and texts.missing:
            self._embedder.worker.check(len(texts.missing))
        if self._gold is not None and units:
            self._gold.check(len(units))
        # From here on nothing is awaited, so that what was found free is free.
        if self._embedder is not None:
            self._embedding = self._embedder.admit(texts)
        if self._gold is not None:
            self._judging = self._gold.admit(units)

    async def finish(self) -> ScoreReply:
        """The reply, once the models have seen what was admitted. Raises ModelError, or NotReadyError."""
        job, prepared = self._job, self._prepared
        assert prepared is not None, "admit comes first"  # noqa: S101
        embedded = await _embedded(self._embedding)
        judged = await _judged(self._judging, prepared)  # which has gone on in the meantime
        results = [
            _result(item, job.recipe, embedded.vectors, judged.scores.get(i))
            for i, item in enumerate(prepared.items)
        ]
        _refuse_failed_items(job, results)
        return ScoreReply(
            rewards=[result.reward for result in results],
            results=results,
            recipe=RecipeName(name=job.recipe.name, hash=job.recipe.hash),
            models=prepared.models,
            timing_ms=TimingMs(
                queue=1e3 * max(embedded.queue_s, judged.queue_s),
                encode=1e3 * embedded.model_s,
                gold=1e3 * judged.model_s if job.wants_gold else None,
                total=1e3 * (time.monotonic() - self._started),
            ),
            texts=embedded.counts,
            notices=self._notices() if job.wants_gold else [],
        )

    def close(self) -> None:
        """Give up what the models have not done yet."""
        for work in (self._embedding, self._judging):
            if work is not None:
                work.close()


def _workers(embedder: Embedder | None, gold: GoldWorker | None) -> list[EncoderWorker | GoldWorker]:
    encoder = embedder.worker if embedder else None
    return [worker for worker in (encoder, gold) if worker is not None]


def _refuse_bad_entries(job: Job) -> None:
    bad = [(i, entry) for i, entry in enumerate(job.entries) if isinstance(entry, InvalidItem)]
    if bad and job.on_item_error == "fail":
        errors = [FieldError(item=i, id=e.id, field=job.path(i, e.field), message=e.message) for i, e in bad]
        raise InvalidRequestError(f"{len(bad)} of {len(job.entries)} items cannot be scored", errors)


def _refuse_failed_items(job: Job, results: Sequence[ItemResult]) -> None:
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


def _prepare_all(
    job: Job, embedder: Embedder | None, encoder: TextEncoder | None, gold: GoldModel | None
) -> _Prepared:
    """Everything that comes before the queues. For a thread."""
    items = [e if isinstance(e, InvalidItem) else _prepare(e, job.recipe) for e in job.entries]
    good = {i: item for i, item in enumerate(items) if isinstance(item, _Item)}
    texts = dict.fromkeys(text for item in good.values() for pair in item.pairs.values() for text in pair)
    look_up = embedder.look_up(encoder, list(texts)) if embedder and encoder else LookUp({}, {})
    exchanges = {i: _read(gold, item.candidate) for i, item in good.items()} if gold else {}
    models = ModelNames(
        relevance=encoder.id if encoder else None,
        gold=gold.id if gold else None,
        relevance_revision=encoder.revision if encoder else None,
        gold_revision=gold.revision if gold else None,
    )
    return _Prepared(items, look_up, exchanges, models)


def _prepare(candidate: ScorableItem, recipe: Recipe) -> _Item:
    cut = clean_response(candidate.response, recipe.stop_strings)
    counted = words(cut if recipe.cut_response else candidate.response)
    values = {
        Factor.LENGTH_INCENTIVE: length_incentive(counted),
        Factor.REPETITION_PENALTY: repetition_penalty(counted),
    }
    item = _Item(candidate, values, empty=not counted)
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


async def _embedded(embedding: Embedding | None) -> Embedded:
    return await embedding.done() if embedding is not None else Embedded({}, TextCounts())


async def _judged(judging: Submission[float] | None, prepared: _Prepared) -> _Judged:
    """A score for every exchange that can be read; one that cannot costs the others nothing."""
    if judging is None:
        return _Judged({})
    done = await judging.done()
    scores: dict[int, float | ItemError] = {
        i: exchange for i, exchange in prepared.exchanges.items() if isinstance(exchange, ItemError)
    }
    read = [i for i in prepared.exchanges if i not in scores]
    for i, outcome in zip(read, done.outcomes, strict=True):
        scores[i] = _gold_score(outcome)
    return _Judged(scores, done.queue_s, done.model_s)


def _gold_score(outcome: float | Exception) -> float | ItemError:
    if isinstance(outcome, Exception):
        return ItemError(field="response", message=str(outcome))
    if not math.isfinite(outcome):
        return ItemError(field="response", message=f"the gold model answered {outcome}, which is no score")
    return outcome


def _result(
    item: _Item | InvalidItem,
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
