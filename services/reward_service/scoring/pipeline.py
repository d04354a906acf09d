"""Scoring of one job: prepare, enqueue, wait for the models, combine.

    job.entries ──▶ prepare (features and tokens) ──▶ enqueue ─┬▶ embed (unique texts) ─┐
                                                               └▶ gold (exchanges)     ─┴▶ reply
                    in a worker thread                 on the event loop                   in a worker thread

Both models work on a job at the same time. Nothing here knows HTTP. An item that a
model failed on, or whose result is not finite, gets an error instead of a number.

Capacity is checked once per job, by `Scorer.reserve`, before the job is prepared. Until it is enqueued, a job
counts as one item of each model. So the queues can exceed `max_waiting_items` by the items of the jobs in
preparation, whose number is limited by `max_items` per job and by the memory for request bodies.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from reward_client.wire import FieldError, RecipeName, ScoreReply, TextCounts, TimingMs
from reward_service.batching import Reservation, Submission
from reward_service.errors import InvalidRequestError, UnavailableError
from reward_service.models.gold import shared_base_notice
from reward_service.scoring.embedding import Embedded, Embedder, Embedding, EncoderWorker
from reward_service.scoring.job import GoldWorker, Job, reject_invalid_items
from reward_service.scoring.preparation import PreparedJob, prepare
from reward_service.scoring.results import gold_scores, item_result, reject_failed_items

__all__ = ["Scorer", "Scoring", "Worker"]

Worker = EncoderWorker | GoldWorker


class Scorer:
    """Scores jobs with the given models; None means that a model is switched off."""

    def __init__(self, embedder: Embedder | None, gold: GoldWorker | None) -> None:
        self.embedder = embedder
        self.gold = gold

    @property
    def workers(self) -> list[Worker]:
        """The workers of all models."""
        return self.workers_for(encoder=True, gold=True)

    def workers_for(self, *, encoder: bool, gold: bool) -> list[Worker]:
        """The workers of the named models, without those that are switched off."""
        needed = (self.embedder.worker if encoder and self.embedder else None, self.gold if gold else None)
        return [worker for worker in needed if worker is not None]

    def reserve(self, workers: Sequence[Worker], caller: str, n_bytes: int) -> dict[str, Reservation]:
        """Room in the queues of all `workers`, by name, or NotReadyError or OverloadedError and no room in any.

        The request has a body of `n_bytes`. `Scoring.enqueue` releases the room; for a request that is dropped
        before, the caller must.
        """
        reserved: dict[str, Reservation] = {}
        try:
            for worker in workers:
                reserved[worker.name] = worker.reserve(caller, n_bytes)
        except UnavailableError:
            for reservation in reserved.values():
                reservation.release()
            raise
        return reserved

    def start(self, job: Job) -> Scoring:
        """Begin to score `job`. Raises InvalidRequestError for items, or models, that it cannot be scored with."""
        reject_invalid_items(job, job.entries)
        return Scoring(job, *self._models_for(job), self)

    def notices(self) -> list[str]:
        """What a reader of this service's gold scores must know."""
        gold = self.gold.model if self.gold else None
        if gold is None:
            return []
        encoder = self.embedder.worker.model if self.embedder else None
        shared = shared_base_notice(gold, encoder.id) if encoder else None
        return [*gold.notices, shared] if shared else list(gold.notices)

    def _models_for(self, job: Job) -> tuple[Embedder | None, GoldWorker | None]:
        recipe = job.recipe
        if not job.entries:
            return None, None
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
        return self.embedder if recipe.needs_encoder else None, self.gold if wants_gold else None


class Scoring:
    """One job being scored: `prepare`, `enqueue`, `wait`, `reply`, and always `close`."""

    def __init__(self, job: Job, embedder: Embedder | None, gold: GoldWorker | None, scorer: Scorer) -> None:
        self.job = job
        self._embedder = embedder
        self._gold = gold
        self._scorer = scorer
        self._started = time.monotonic()
        self._prepared: PreparedJob | None = None
        self._embedding: Embedding | None = None
        self._gold_submission: Submission[float] | None = None

    @property
    def workers(self) -> list[Worker]:
        """The workers of the models that the job needs."""
        return self._scorer.workers_for(encoder=self._embedder is not None, gold=self._gold is not None)

    def prepare(self) -> None:
        """Compute features and tokens. CPU-bound: to be called in a thread. Raises NotReadyError."""
        encoder = self._embedder.worker.loaded_model() if self._embedder else None
        gold = self._gold.loaded_model() if self._gold else None
        self._prepared = prepare(self.job, self._embedder, encoder, gold)

    async def enqueue(self, caller: str, reserved: Mapping[str, Reservation]) -> None:
        """Put the work of `caller` into the models' queues, in the room `reserved`. Raises NotReadyError."""
        prepared = self._prepared_job
        if self._embedder is not None:
            room = reserved.get(self._embedder.worker.name)
            self._embedding = await self._embedder.enqueue(prepared.texts, caller, room)
        if self._gold is not None:
            room = reserved.get(self._gold.name)
            self._gold_submission = await self._gold.enqueue(prepared.units, caller, room)

    async def wait(self) -> None:
        """Return when the models have processed the job. Raises NotReadyError if one stops for good."""
        for submission in self._submissions():
            await submission.finished

    def reply(self) -> ScoreReply:
        """Combine the results. CPU-bound for thousands of items. Raises ModelError."""
        job, prepared = self.job, self._prepared_job
        embedded = self._embedding.result() if self._embedding else Embedded({}, TextCounts())
        gold = gold_scores(self._gold_submission, prepared)
        results = [
            item_result(item, job.recipe, embedded.vectors, gold.scores.get(i))
            for i, item in enumerate(prepared.items)
        ]
        reject_failed_items(job, results)
        return ScoreReply(
            rewards=[result.reward for result in results],
            results=results,
            recipe=RecipeName(name=job.recipe.name, hash=job.recipe.hash),
            models=prepared.models,
            timing_ms=TimingMs(
                queue=1e3 * max(embedded.queue_s, gold.queue_s),
                encode=1e3 * embedded.model_s,
                gold=1e3 * gold.model_s if self._gold is not None else None,
                total=1e3 * (time.monotonic() - self._started),
            ),
            texts=embedded.counts,
            notices=self._scorer.notices() if self._gold is not None else [],
        )

    def close(self) -> None:
        """Drop what the models have not processed yet."""
        for submission in self._submissions():
            submission.close()

    def _submissions(self) -> list[Submission[Any]]:
        queued = (self._embedding.submission if self._embedding else None, self._gold_submission)
        return [submission for submission in queued if submission is not None]

    @property
    def _prepared_job(self) -> PreparedJob:
        assert self._prepared is not None, "prepare comes first"  # noqa: S101
        return self._prepared
