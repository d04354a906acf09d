"""The pipeline on one page: prepare → embed → gold → combine.

    job.entries ──▶ prepare (text features, in a thread) ──▶ embed (unique texts) ─┐
                                                       └──▶ gold (exchanges)      ─┴▶ combine ──▶ ScoreReply

The encoder and the gold model work at the same time. Nothing here knows HTTP, and nothing here invents a
number: an item whose arithmetic is not finite gets an error.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reward_client.wire import (
    Features,
    FieldError,
    ItemError,
    ItemResult,
    ModelNames,
    OnItemError,
    RecipeName,
    ScoreReply,
    TimingMs,
)
from reward_service.batching import ModelWorker
from reward_service.candidates import Candidate, Rejected
from reward_service.errors import InvalidRequestError, ModelError
from reward_service.models.base import Exchange, GoldModel, TextEncoder
from reward_service.models.gold import GoldScoreError, shared_base_notice
from reward_service.whitebox.features import length_incentive, repetition_penalty, similarity
from reward_service.whitebox.recipe import Factor, Recipe
from reward_service.whitebox.text import clean_response, prompt_text, words

__all__ = ["EncoderWorker", "GoldWorker", "Job", "Scorer"]

Vector = NDArray[np.float32]
EncoderWorker = ModelWorker[TextEncoder, str, Vector]
GoldWorker = ModelWorker[GoldModel, Exchange, float]


def _item_path(index: int, name: str) -> str:
    return f"items.{index}.{name}"


@dataclass(frozen=True, slots=True)
class Job:
    """What one request wants scored."""

    entries: Sequence[Candidate | Rejected]
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
class _Prepared:
    """A candidate and what is known of it before any model has seen it."""

    candidate: Candidate
    values: dict[Factor, float]
    empty: bool
    pairs: dict[Factor, tuple[str, str]] = field(default_factory=dict)
    """Texts to compare, for each relevance that the recipe's branch uses."""


@dataclass(frozen=True, slots=True)
class _Embedded:
    vectors: Mapping[str, Vector]
    queue_s: float = 0.0
    model_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Judged:
    scores: Mapping[int, float | ItemError]
    queue_s: float = 0.0
    model_s: float = 0.0


class Scorer:
    """Scores jobs with the models it was given; None stands for a model that the operator switched off."""

    def __init__(self, encoder: EncoderWorker | None, gold: GoldWorker | None) -> None:
        self._encoder = encoder
        self._gold = gold

    async def score(self, job: Job) -> ScoreReply:
        """Score a job. Raises InvalidRequestError, ModelError, NotReadyError or OverloadedError."""
        started = time.monotonic()
        _refuse_bad_entries(job)
        encoder, gold = self.models_for(job)
        prepared = await asyncio.to_thread(_prepare_all, job)
        good = [p for p in prepared if isinstance(p, _Prepared)]
        embedded, judged = await asyncio.gather(_embed(encoder, good), _judge(gold, good))
        scored = (_result(p, job.recipe, embedded.vectors, judged.scores.get(i)) for i, p in enumerate(good))
        results = [_rejected(entry) if isinstance(entry, Rejected) else next(scored) for entry in prepared]
        _refuse_failed_items(job, results)
        return ScoreReply(
            rewards=[result.reward for result in results],
            results=results,
            recipe=RecipeName(name=job.recipe.name, hash=job.recipe.hash),
            models=ModelNames(relevance=_id(encoder), gold=_id(gold)),
            timing_ms=TimingMs(
                queue=1e3 * max(embedded.queue_s, judged.queue_s),
                encode=1e3 * embedded.model_s,
                gold=1e3 * judged.model_s if job.wants_gold else None,
                total=1e3 * (time.monotonic() - started),
            ),
            notices=self.notices() if job.wants_gold else [],
        )

    def notices(self) -> list[str]:
        """What readers of this service's gold scores must know."""
        gold = self._gold.model if self._gold else None
        if gold is None:
            return []
        encoder = self._encoder.model if self._encoder else None
        shared = shared_base_notice(gold, encoder.id) if encoder else None
        return [*gold.notices, shared] if shared else list(gold.notices)

    def models_for(self, job: Job) -> tuple[EncoderWorker | None, GoldWorker | None]:
        """The models that `job` needs. Raises InvalidRequestError when the service lacks one."""
        recipe = job.recipe
        if recipe.needs_encoder and self._encoder is None:
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
        return self._encoder if recipe.needs_encoder else None, self._gold if job.wants_gold else None


def _refuse_bad_entries(job: Job) -> None:
    bad = [(i, entry) for i, entry in enumerate(job.entries) if isinstance(entry, Rejected)]
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
        raise ModelError(f"{len(errors)} of {len(results)} items have no finite reward", errors)


def _prepare_all(job: Job) -> list[_Prepared | Rejected]:
    return [e if isinstance(e, Rejected) else _prepare(e, job.recipe) for e in job.entries]


def _prepare(candidate: Candidate, recipe: Recipe) -> _Prepared:
    cut = clean_response(candidate.response, recipe.stop_strings)
    counted = words(cut if recipe.cut_response else candidate.response)
    values = {
        Factor.LENGTH_INCENTIVE: length_incentive(counted),
        Factor.REPETITION_PENALTY: repetition_penalty(counted),
    }
    prepared = _Prepared(candidate, values, empty=not counted)
    if prepared.empty and recipe.empty_is_zero:
        return prepared
    response = cut if recipe.relevance_sees_cut_response else candidate.response
    factors = recipe.factors(candidate.query_type)
    if Factor.QUERY_RELEVANCE in factors:
        prepared.pairs[Factor.QUERY_RELEVANCE] = (prompt_text(candidate.messages), response)
    if Factor.REFERENCE_RELEVANCE in factors and candidate.reference is not None:
        prepared.pairs[Factor.REFERENCE_RELEVANCE] = (candidate.reference, response)
    return prepared


async def _embed(encoder: EncoderWorker | None, prepared: Sequence[_Prepared]) -> _Embedded:
    """Embed every text once, however many items share it."""
    texts = list(dict.fromkeys(text for p in prepared for pair in p.pairs.values() for text in pair))
    if encoder is None or not texts:
        return _Embedded({})
    done = await encoder.submit(texts)
    return _Embedded(dict(zip(texts, done.results, strict=True)), done.queue_s, done.model_s)


async def _judge(gold: GoldWorker | None, prepared: Sequence[_Prepared]) -> _Judged:
    """Score every exchange; one that the model cannot score gets its reason, and costs the others nothing."""
    if gold is None:
        return _Judged({})
    exchanges = {i: Exchange(p.candidate.messages, p.candidate.response) for i, p in enumerate(prepared)}
    failed: dict[int, ItemError] = {}
    while True:
        asked = list(exchanges)
        try:
            done = await gold.submit(list(exchanges.values()))
        except GoldScoreError as exc:
            for position, why in exc.reasons.items():
                failed[asked[position]] = ItemError(field="response", message=f"gold: {why}")
                del exchanges[asked[position]]
        else:
            break
    return _Judged({**failed, **dict(zip(exchanges, done.results, strict=True))}, done.queue_s, done.model_s)


def _result(
    prepared: _Prepared, recipe: Recipe, vectors: Mapping[str, Vector], gold_score: float | ItemError | None
) -> ItemResult:
    """Combine what is known of one item; a number that is not finite becomes the item's error."""
    candidate = prepared.candidate
    if isinstance(gold_score, ItemError):
        return _failed(candidate, gold_score)
    values = dict(prepared.values)
    for factor, (text, response) in prepared.pairs.items():
        values[factor] = similarity(vectors[text], vectors[response], recipe.similarity)
    if gold_score is not None:
        values[Factor.GOLD] = gold_score
    zero = prepared.empty and recipe.empty_is_zero
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
        flags=[*candidate.flags, *(["empty"] if prepared.empty else [])],
        id=candidate.id,
    )


def _rejected(entry: Rejected) -> ItemResult:
    return ItemResult(reward=None, id=entry.id, error=ItemError(field=entry.field, message=entry.message))


def _failed(candidate: Candidate, error: ItemError) -> ItemResult:
    return ItemResult(reward=None, id=candidate.id, flags=list(candidate.flags), error=error)


def _id(worker: EncoderWorker | GoldWorker | None) -> str | None:
    model = worker.model if worker else None
    return model.id if model else None
