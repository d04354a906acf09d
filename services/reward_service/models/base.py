"""What the service asks of a model: two Protocols, so that tests and other back ends can stand in.

A model is owned by one worker thread (see `batching.py`); none of these methods needs to be thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reward_client.wire import ChatMessage

__all__ = ["Embeddings", "Exchange", "GoldModel", "TextEncoder"]

Embeddings = NDArray[np.float32]
"""Mean-pooled last hidden states, unnormalised, shape (N, D)."""


class TextEncoder(Protocol):
    """Turns texts into vectors whose dot products (or cosines) measure relevance."""

    id: str
    """Package, hub id or folder that the weights came from."""
    revision: str
    """Content hash of the weights: the same revision gives the same vectors."""
    device: str

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed `texts`, in order; row i does not depend on the other texts beyond float rounding."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """A conversation and the response to judge."""

    messages: tuple[ChatMessage, ...]
    """The conversation up to the response, at least one message."""
    response: str


class GoldModel(Protocol):
    """A reward model that judges an exchange; its scale is its own (logits, not probabilities)."""

    id: str
    revision: str
    device: str
    notices: tuple[str, ...]
    """Sentences that every reply and report with this model's scores must carry; empty for a real judge."""
    encoder_base: str | None
    """Encoder weights it was fitted on, when it was: then it is no independent evidence for that encoder."""

    def score(self, exchanges: Sequence[Exchange]) -> list[float]:
        """Score `exchanges`, in order; each as it would score alone, to float rounding."""
        ...
