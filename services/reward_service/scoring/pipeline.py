"""The pipeline on one page: prepare → admit → embed and judge → combine.

    job.entries ──▶ prepare (features and tokens, in a thread) ──▶ admit ─┬▶ embed (unique texts) ─┐
                                                                          └▶ gold (exchanges)     ─┴▶ combine

Both models admit a job in one step, or neither does. They work at the same time. Nothing here knows HTTP, and
nothing here invents a number: an item that a model failed on, or whose arithmetic is not finite, gets an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing

from reward_client.wire import (
    FieldError,
    RecipeName,
    ScoreReply,
    TextCounts,
    TimingMs,
)
from reward_service.batching import Submission
from reward_service.errors import InvalidRequestError
from reward_service.models.gold import shared_base_notice
from reward_service.scoring.embedding import Embedded, Embedder, Embedding, EncoderWorker
from reward_service.scoring.job import GoldWorker, Job, reject_invalid_items
from reward_service.scoring.preparation import PreparedJob, prepare
from reward_service.scoring.results import (
    gold_scores,
    item_result,
    reject_failed_items,
)

__all__ = ["Scorer", "Scoring"]


class Scorer:
    """Scores jobs with the models it was given; None stands for a model that the operator switched off."""

    def __init__(self, embedder: Embedder | None, gold: GoldWorker | None) -> None:
        self._embedder = embedder
        self._gold = gold

    def start(self, job: Job) -> Scoring:
        """`job`, on its way. Raises InvalidRequestError for entries, or models, that it cannot be scored with."""
        reject_invalid_items(job, job.entries)
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
        self._prepared: PreparedJob | None = None
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
            self._prepared = await asyncio.to_thread(prepare, self._job, self._embedder, encoder, gold)
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
        judged = await gold_scores(self._judging, prepared)  # which has gone on in the meantime
        results = [
            item_result(item, job.recipe, embedded.vectors, judged.scores.get(i))
            for i, item in enumerate(prepared.items)
        ]
        reject_failed_items(job, results)
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


async def _embedded(embedding: Embedding | None) -> Embedded:
    return await embedding.done() if embedding is not None else Embedded({}, TextCounts())
