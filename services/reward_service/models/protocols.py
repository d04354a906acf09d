"""What the service asks of a model: two Protocols, so that tests and other back ends can stand in.

A model has two halves. Reading (text to tokens) may be called from any thread, many at a time; it goes before
the queue, so that the model's own thread sees only work that is ready. The forward pass is called by that one
thread only (see `batching/`), with one batch at a time.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reward_client.wire import ChatMessage
from reward_service.batching import BatchLimits

__all__ = ["Embeddings", "Exchange", "GoldModel", "TextEncoder", "Tokens"]

Embeddings = NDArray[np.float32]
"""Mean-pooled last hidden states, unnormalised, shape (N, D)."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text or exchange as a model reads it, without padding; 4 bytes a number, because many may wait."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int] | None = None
    """0 for the prompt's part and 1 for the response's, for models that tell a pair's two texts apart."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_ids", array("i", self.input_ids))
        if self.token_type_ids is not None:
            object.__setattr__(self, "token_type_ids", array("i", self.token_type_ids))

    def __len__(self) -> int:
        return len(self.input_ids)


class TextEncoder(Protocol):
    """Turns texts into vectors whose dot products (or cosines) measure relevance."""

    id: str
    """Package, hub id or folder that the weights came from."""
    revision: str
    """Content hash of the weights: the same revision gives the same vectors."""
    device: str
    backend: str
    """What runs the forward pass, and in which number format: `openvino fp32`."""
    limits: BatchLimits
    """The batch shape that it is fastest with."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text, already cut to what the model reads. Thread-safe."""
        ...

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        """One forward pass; row i does not depend on the other texts beyond float rounding."""
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
    backend: str
    limits: BatchLimits
    notices: tuple[str, ...]
    """Sentences that every reply and report with this model's scores must carry; empty for a real judge."""
    encoder_base: str | None
    """Encoder weights it was fitted on, when it was: then it is no independent evidence for that encoder."""

    def read(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`. Thread-safe. Raises ValueError with the reason where it cannot be read."""
        ...

    def judge(self, batch: Sequence[Tokens]) -> list[float]:
        """One forward pass; each score as it would be alone, to float rounding. May hold NaN or infinity."""
        ...
