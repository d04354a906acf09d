"""The metrics interface of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from reward_service.batching.queue import BatchQueue

__all__ = ["BatchStats", "MetricsHook"]


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Figures of one forward pass."""

    items: int
    tokens: int
    padded_tokens: int
    """Longest item × items."""
    requests: int
    seconds: float


class MetricsHook(Protocol):
    """Receives the events of a worker."""

    def batch_done(self, worker: str, batch: BatchStats) -> None:
        """A forward pass succeeded."""
        ...

    def batch_failed(self, worker: str, cause: str) -> None:
        """A forward pass raised or timed out."""
        ...

    def not_finite(self, worker: str) -> None:
        """A result was NaN or infinite."""
        ...

    def watch_queue(self, worker: str, queue: BatchQueue[Any, Any]) -> None:
        """The worker has a queue, whose size may be read at any time."""
        ...

    def waited(self, worker: str, seconds: float) -> None:
        """The first batch of a request started, `seconds` after its submission."""
        ...

    def restarted(self, worker: str) -> None:
        """The worker reloads a model that hung."""
        ...
