"""What a worker tells of its work, for metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["BatchStats", "MetricsHook"]


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What one forward pass was."""

    items: int
    tokens: int
    padded_tokens: int
    """Longest item × items."""
    requests: int
    seconds: float


class MetricsHook(Protocol):
    """Is told what a worker does, for metrics."""

    def batch_done(self, worker: str, batch: BatchStats) -> None:
        """A forward pass succeeded."""
        ...

    def batch_failed(self, worker: str, cause: str) -> None:
        """A forward pass raised, or never came back."""
        ...

    def not_finite(self, worker: str) -> None:
        """A result was NaN or infinite."""
        ...

    def waiting(self, worker: str, items: int, tokens: int) -> None:
        """So much waits now."""
        ...

    def waited(self, worker: str, seconds: float) -> None:
        """A request waited so long for its first batch."""
        ...

    def restarted(self, worker: str) -> None:
        """A model that hung is loaded anew."""
        ...
