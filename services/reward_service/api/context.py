"""What routes share: the wired service, put on the application once by `create_app`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from reward_client.wire import ScoreReply
from reward_service.embedding import Embedder
from reward_service.metrics import Metrics
from reward_service.recipebook import RecipeBook
from reward_service.scoring import GoldWorker, Job, Scorer
from reward_service.settings import Settings

__all__ = ["Context", "ContextDep"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that answers requests."""

    settings: Settings
    recipes: RecipeBook
    embedder: Embedder | None
    gold: GoldWorker | None
    scorer: Scorer
    metrics: Metrics

    async def score(self, job: Job, *, protocol: str, run: str | None, step: int | None = None) -> ScoreReply:
        """Score `job` and count what came out. Raises what `Scorer.score` raises."""
        reply = await self.scorer.score(job)
        self.metrics.scored(protocol, reply)
        logger.debug("scored %d items: protocol=%s run=%s step=%s", len(reply.rewards), protocol, run, step)
        return reply


def _context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


ContextDep = Annotated[Context, Depends(_context)]
