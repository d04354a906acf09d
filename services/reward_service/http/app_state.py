"""Application state: the objects that routes share, set by `create_app`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from reward_service.admission.memory import MemoryBudget
from reward_service.admission.pipeline import RequestPipeline
from reward_service.batching import StepExecutor
from reward_service.datasets.store import DatasetStore
from reward_service.features.feature import Range
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from reward_service.http.auth import Keyring
from reward_service.http.cached_bodies import CachedBodies
from reward_service.http.readiness import Readiness
from reward_service.http.shared_call import SharedCall
from reward_service.scoring.pipeline import Scorer
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class AppState:
    """Objects that live as long as the application runs."""

    settings: Settings
    features: FeatureRegistry
    feature_ranges: Mapping[str, Range]
    """Ranges under the default recipe, by feature name."""
    recipes: RecipeRegistry
    scorer: Scorer
    metrics: Metrics
    executor: StepExecutor
    memory: MemoryBudget
    datasets: DatasetStore
    pipeline: RequestPipeline
    readiness: Readiness
    bodies: CachedBodies
    exposition: SharedCall[bytes]
    """Makes the exposition of the metrics."""
    keys: Keyring | None
    """None if authentication is off."""

    @property
    def is_broken(self) -> bool:
        """Whether a model has stopped for good, so that only a new process can serve."""
        return any(worker.is_dead for worker in self.scorer.workers)

    async def loaded(self) -> None:
        """Return when every model is loaded. Raises NotReadyError, with the cause, when one cannot be."""
        for worker in self.scorer.workers:
            await worker.loaded()


async def _app_state(request: Request) -> AppState:
    """A coroutine, because FastAPI calls a plain function in a thread, for every request."""
    return cast(AppState, request.app.state.glassbox)


AppStateDep = Annotated[AppState, Depends(_app_state)]
