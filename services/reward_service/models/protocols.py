"""The interfaces of the two kinds of model. Tests and other back ends implement them.

A model has two halves. Tokenization runs before the queue and may be called from many threads at once. The forward
pass is called from the model's thread only (see `batching/`), with one batch at a time.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reward_client.wire import ChatMessage
from reward_service.batching import BatchLimits

Embeddings = NDArray[np.float32]
"""Mean-pooled last hidden states, unnormalised, shape (N, D)."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of one text or exchange, without padding; 4 bytes a token, because many may be queued."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int] | None = None
    """0 for tokens of the prompt and 1 for tokens of the response, for models of text pairs."""
    flags: tuple[str, ...] = ()
    """Observations about the item, for its result."""
    unknown_share: float = 0.0
    """Share of the text's characters that an encoder's tokenizer has no tokens for."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_ids", array("i", self.input_ids))
        if self.token_type_ids is not None:
            object.__setattr__(self, "token_type_ids", array("i", self.token_type_ids))

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def fingerprint(self) -> int:
        """Equal for equal token ids, in one process; 0 for a text without unknown characters."""
        return hash(bytes(memoryview(self.input_ids))) if self.unknown_share else 0  # type: ignore[arg-type]


class TextEncoder(Protocol):
    """Turns texts into vectors whose dot products (or cosines) measure relevance."""

    id: str
    """Package, hub id or folder of the weights."""
    revision: str
    """Content hash of the weights: the same revision gives the same vectors."""
    device: str
    backend: str
    """Library and number format of the forward pass: `openvino fp32`."""
    limits: BatchLimits
    """Batch limits with which the model is fastest."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text with their `unknown_share`, truncated to the model's maximum. Thread-safe."""
        ...

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        """One forward pass. Row i depends on the other texts only through floating-point rounding."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """A conversation and the response to score."""

    messages: tuple[ChatMessage, ...]
    """The conversation before the response, at least one message."""
    response: str


@dataclass(frozen=True, slots=True)
class RawText:
    """A text to score as it is, such as a conversation that the caller rendered: names of special tokens in it are
    those tokens."""

    text: str
    add_special_tokens: bool = True
    """Whether the tokenizer adds its own, such as one that begins a text."""
    max_tokens: int | None = None
    """Tokens to truncate it to; when None, a text that is too long for the model is an error."""
    keeps_end: bool = True
    """Whether truncation keeps the last tokens, or the first ones."""


class UnreadablePromptError(ValueError):
    """A gold model's format cannot express a conversation, whatever its texts are."""


class GoldModel(Protocol):
    """A reward model that scores an exchange. Scores are logits, so each model has a different scale."""

    id: str
    revision: str
    device: str
    backend: str
    limits: BatchLimits
    notices: tuple[str, ...]
    """Warnings for every reply and report with this model's scores, for instance that it is a demo model."""
    encoder_base: str | None
    """Encoder whose weights the model was fitted on, if any; it gives no independent evidence for that encoder."""

    def tokenize(self, exchange: Exchange) -> Tokens:
        """Tokens of `exchange`. Thread-safe. Raises ValueError, with the reason, when it cannot be tokenized; an
        UnreadablePromptError if that is due to the conversation before the response."""
        ...

    def tokenize_text(self, text: RawText) -> Tokens:
        """Tokens of `text`, as its tokenizer reads it. Thread-safe. Raises ValueError, with the reason."""
        ...

    def score(self, batch: Sequence[Tokens]) -> Sequence[float] | Awaitable[Sequence[float | Exception]]:
        """One forward pass: independent scores in the order of `batch`. May contain NaN or infinity.

        A coroutine for a model behind a server, whose result may also have the errors of items.
        """
        ...


class LocalGold(GoldModel, Protocol):
    """A gold model in this process."""

    def score(self, batch: Sequence[Tokens]) -> list[float]:
        """One forward pass: independent scores in the order of `batch`. May contain NaN or infinity."""
        ...
