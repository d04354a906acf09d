"""What routes share: the wired service, put on the application once by `create_app`."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from reward_client.wire import ScoreReply
from reward_service.admission.hold import Line, Protocol
from reward_service.admission.pipeline import RequestPipeline
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from reward_service.http.auth import Keyring
from reward_service.http.readiness import Readiness
from reward_service.scoring.embedding import Embedder
from reward_service.scoring.job import GoldWorker, Job
from reward_service.scoring.pipeline import Scorer
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

__all__ = ["AppState", "AppStateDep"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AppState:
    """Everything that answers requests."""

    settings: Settings
    features: FeatureRegistry
    recipes: RecipeRegistry
    embedder: Embedder | None
    gold: GoldWorker | None
    scorer: Scorer
    metrics: Metrics
    pipeline: RequestPipeline
    readiness: Readiness
    keys: Keyring | None
    """None lets everybody in."""

    @property
    def broken(self) -> bool:
        """Whether a model is gone for good, so that only another process can help."""
        return any(worker.is_dead for worker in self.scorer.workers)

    async def loaded(self) -> None:
        """Return when every model is loaded. Raises NotReadyError, with the cause, when one cannot be."""
        for worker in self.scorer.workers:
            await worker.loaded()

    async def score(self, job: Job, *, protocol: Protocol, run: str | None, step: int | None = None) -> ScoreReply:
        """Score `job`, held for as long as its caller can wait. Raises what `Scorer.score` raises."""
        line: Line = "gold" if job.wants_gold else "white-box"
        with closing(self.scorer.start(job)) as scoring:
            await self.pipeline.holder.admit(protocol, line, scoring.admit, scoring.loaded)
            reply = await scoring.finish()
        self.metrics.scored(protocol, reply)
        logger.debug("scored %d items: protocol=%s run=%r step=%s", len(reply.rewards), protocol, run, step)
        return reply


async def _app_state(request: Request) -> AppState:
    """Not a plain function: FastAPI would send that to a thread, for every request."""
    return cast(AppState, request.app.state.glassbox)


AppStateDep = Annotated[AppState, Depends(_app_state)]
