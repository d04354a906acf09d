"""Scoring of one job: what the models have to compute, and the reply that is made of it.

    job.entries ──▶ prepare (features and tokens) ──▶ units ─┬▶ encoder (unique texts) ─┐
                                                             └▶ golds (exchanges)      ─┴▶ reply
                    steps                             queues: `admission.work`             steps

Nothing here knows HTTP or waits. An item that a model failed on, or whose result is not finite, gets an error
instead of a number. `Steps` are CPU-bound work, for the executor that the caller chooses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reward_client.wire import FieldError, ItemResult, ModelNames, RecipeName, ScoreReply, TextCounts, TimingMs
from reward_client.wire.shared_base import shared_base_notice
from reward_service.batching import Steps, Submission, Unit
from reward_service.errors import InvalidRequestError, ModelError, TooLargeError
from reward_service.features.recipe import Recipe
from reward_service.models.protocols import Exchange, GoldModel, RawText, Tokens
from reward_service.scoring.embedding import Embedder, EncoderWorker, LookUp
from reward_service.scoring.gold_only import GoldJob, GoldScoring, required_gold
from reward_service.scoring.items import PreparedJob, prepare
from reward_service.scoring.job import (
    GoldWorker,
    InvalidItem,
    Job,
    ScorableItem,
    reject_invalid_items,
    reject_unavailable,
    with_needed_reference,
)
from reward_service.scoring.references import ReferenceLookup
from reward_service.scoring.results import item_results

Worker = EncoderWorker | GoldWorker
_REFERENCE_BYTES = 1_400
"""Memory for each reference of an item that has several: it is prepared with each of them."""


class Scorer:
    """Scores jobs with the given models; without an `embedder`, or any of `golds`, they are switched off."""

    def __init__(
        self, embedder: Embedder | None, golds: Sequence[GoldWorker], max_references: float = math.inf
    ) -> None:
        self._max_references = max_references
        """Of all items of a request that have several."""
        self.embedder = embedder
        self.golds = list(golds)
        """The primary gold model, which recipes and most protocols use, and those that are reported beside it."""
        self._encoder_id: str | None = None
        """Known after the first load, also while the encoder is loaded again."""

    @property
    def gold(self) -> GoldWorker | None:
        """The primary gold model."""
        return self.golds[0] if self.golds else None

    @property
    def workers(self) -> list[Worker]:
        """The workers of all models."""
        return [*([self.embedder.worker] if self.embedder else []), *self.golds]

    def workers_for(self, recipe: Recipe, *, gold: bool, all_golds: bool) -> list[Worker]:
        """The workers of the models that `recipe` and `gold` need, without those that are switched off."""
        encoder = [self.embedder.worker] if self.embedder and recipe.needs_encoder else []
        return [*encoder, *self._golds_for(recipe, gold=gold, all_golds=all_golds)]

    def _golds_for(self, recipe: Recipe, *, gold: bool, all_golds: bool) -> list[GoldWorker]:
        """All of them if that is requested; the primary one if the recipe or the request needs a gold score."""
        if gold and all_golds:
            return self.golds
        return self.golds[:1] if gold or recipe.needs_gold else []

    def start(self, job: Job, references: ReferenceLookup | None = None) -> Steps[Scoring]:
        """Read the items of `job`; `references` completes them.

        Raises:
            InvalidRequestError: the items, or the models, do not allow to score the job.
            StorageError: references could not be read.
        """
        entries: list[ScorableItem | InvalidItem] = []
        n_references = 0
        for entry in job.entries:
            if entries:
                yield
            completed = entry if references is None else references.complete(entry)
            n_references += len(completed.alternatives) if isinstance(completed, ScorableItem) else 0
            self._check_references(job, len(entries), n_references)
            entries.append(with_needed_reference(completed))
        reject_invalid_items(job, entries)
        embedder, golds = self._models_for(job) if entries else (None, [])
        scoring = Scoring(job, entries, embedder, golds, self.notices, references)
        scoring.n_extra_bytes = _REFERENCE_BYTES * n_references
        return scoring

    def start_gold(self, job: GoldJob) -> Steps[GoldScoring]:
        """Read the entries of `job`. Raises InvalidRequestError or TooLargeError."""
        gold = required_gold(self.gold)
        entries: list[Exchange | RawText | InvalidItem] = []
        for entry in job.entries:
            if entries:
                yield
            entries.append(entry)
        return GoldScoring(job, entries, gold, self.notices)

    def _check_references(self, job: Job, index: int, n_references: int) -> None:
        if n_references > self._max_references:
            message = (
                f"brings the references of the request to {n_references}, at most {self._max_references} are "
                "allowed; send fewer items"
            )
            field = job.path(index, "reference")
            raise TooLargeError(f"{field} {message}", [FieldError(item=index, field=field, message=message)])

    def notices(self, golds: Iterable[GoldModel]) -> list[str]:
        """What a reader of the scores of `golds` must know."""
        if self.embedder and (encoder := self.embedder.worker.model):
            self._encoder_id = encoder.id
        notices: list[str] = []
        for gold in golds:
            shared = shared_base_notice(gold.id, gold.encoder_base, "relevance encoder", self._encoder_id)
            notices += [*gold.notices, *([shared] if shared else [])]
        return list(dict.fromkeys(notices))

    def _models_for(self, job: Job) -> tuple[Embedder | None, list[GoldWorker]]:
        recipe = job.recipe
        if recipe.needs_encoder and self.embedder is None:
            raise InvalidRequestError(
                f"recipe {recipe.name!r} needs a relevance encoder and this service has none; "
                "start it with --encoder, or choose a recipe without relevance",
                [FieldError(field="recipe", message="needs a relevance encoder, which this service lacks")],
            )
        wants_gold = job.wants_gold
        if wants_gold and self.gold is None:
            name = "recipe" if recipe.needs_gold else "gold"
            raise InvalidRequestError(
                "a gold score was requested, and this service has no gold model; start it with --gold",
                [FieldError(field=name, message="needs a gold model, which this service lacks")],
            )
        golds = self._golds_for(recipe, gold=job.gold, all_golds=job.all_golds)
        return self.embedder if recipe.needs_encoder else None, golds


class Scoring:
    """One job being scored: `prepare`, then `reply` when the `workers` have computed the `units`."""

    def __init__(
        self,
        job: Job,
        entries: Sequence[ScorableItem | InvalidItem],
        embedder: Embedder | None,
        golds: Sequence[GoldWorker],
        notices: Callable[[Iterable[GoldModel]], list[str]],
        references: ReferenceLookup | None = None,
    ) -> None:
        self.job = job
        self.n_items = len(entries)
        self.workers: list[Worker] = [*([embedder.worker] if embedder else []), *golds]
        """Of the models that the job needs."""
        self.units: list[Sequence[Unit[Tokens]]] = []
        """What each of them has to compute, once the job is prepared."""
        self.n_extra_bytes = 0
        """Memory that it needs beside what the body of its request was charged."""
        self._entries = entries
        self._embedder = embedder
        self._golds = golds
        self._labels = [worker.label for worker in golds]
        self._notices = notices
        self._references = references
        self._started = time.monotonic()
        self._gold_models: list[GoldModel] = []
        self._prepared = PreparedJob([], LookUp({}, {}), [])
        self._models = ModelNames(relevance=None, gold=None)

    def prepare(self) -> Steps[None]:
        """Compute features and tokens. Raises NotReadyError or InvalidRequestError."""
        encoder = self._embedder.worker.loaded_model() if self._embedder else None
        golds = self._gold_models = [worker.loaded_model() for worker in self._golds]
        gold = golds[0] if golds else None
        by_label = dict(zip(self._labels, golds, strict=True))
        self._models = ModelNames(
            relevance=encoder.id if encoder else None,
            gold=gold.id if gold else None,
            relevance_revision=encoder.revision if encoder else None,
            gold_revision=gold.revision if gold else None,
            golds={one.id: one.revision for one in golds} if len(golds) > 1 else {},
        )
        self._prepared = yield from prepare(self.job, self._entries, self._embedder, encoder, by_label)
        texts = [list(self._prepared.texts.missing.values())] if self._embedder else []
        self.units = [*texts, *self._prepared.units]

    def reply(self, done: Sequence[Submission[Any]]) -> Steps[ScoreReply]:
        """Combine the results, of which `done` has those of each worker.

        Raises ModelError, or GoldUnavailableError if a server did not answer.
        """
        job = self.job
        embedding, golds = (done[:1], done[1:]) if self._embedder else ((), done)
        vectors, counts = self._prepared.texts.embedded(embedding[0]) if embedding else ({}, TextCounts())
        scores = [gold.outcomes for gold in golds]
        for outcomes in scores:
            reject_unavailable(outcomes)
        results = yield from item_results(
            self._prepared,
            job.recipe,
            vectors,
            scores,
            self._labels,
            tuple(self._models.golds),
            explain=job.explain,
        )
        _reject_failed_items(job, results)
        return ScoreReply(
            rewards=[result.reward for result in results],
            results=results,
            recipe=RecipeName(name=job.recipe.name, hash=job.recipe.hash),
            models=self._models,
            timing_ms=TimingMs(
                queue=1e3 * max((one.queue_s or 0.0 for one in done), default=0.0),
                encode=1e3 * sum(one.model_s for one in embedding),
                gold=1e3 * max(gold.model_s for gold in golds) if golds else None,
                total=1e3 * (time.monotonic() - self._started),
            ),
            texts=counts,
            notices=[
                *self._notices(self._gold_models),
                *(self._references.notices() if self._references is not None else []),
            ],
        )


def _reject_failed_items(job: Job, results: Sequence[ItemResult]) -> None:
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
