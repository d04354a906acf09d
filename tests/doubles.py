"""Stand-ins at the service's designed seams: models whose numbers a person can work out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reward_service.batching import BatchLimits
from reward_service.models.protocols import Embeddings, Exchange, Tokens

LIMITS = BatchLimits(max_tokens=100_000, max_items=64)


def letters(text: str) -> Tokens:
    """A text as the stand-ins read it: its characters."""
    return Tokens([ord(character) for character in text])


def text_of(tokens: Tokens) -> str:
    """The text that `letters` made `tokens` of."""
    return "".join(map(chr, tokens.input_ids))


@dataclass
class LetterEncoder:
    """Embeds a text as its counts of the letters a to z; "NAN" in it gives NaN, "BOOM" raises."""

    id: str = "letters"
    revision: str = "0"
    device: str = "cpu"
    backend: str = "counting"
    limits: BatchLimits = LIMITS
    calls: list[list[str]] = field(default_factory=list)
    gate: threading.Event | None = None
    """When set, `embed` waits for it: the way to hold the model busy."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return [letters(text) for text in texts]

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        texts = [text_of(tokens) for tokens in batch]
        self.calls.append(texts)
        if self.gate is not None and not self.gate.wait(timeout=30):
            raise TimeoutError("the test never opened the gate")
        if any("BOOM" in text for text in texts):
            raise RuntimeError("encoder exploded")
        return np.array([self._vector(text) for text in texts], dtype=np.float32)

    @staticmethod
    def _vector(text: str) -> list[float]:
        if "NAN" in text:
            return [float("nan")] * 26
        return [float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]


@dataclass
class LengthGold:
    """Scores an exchange by its response's characters; "NAN" in it has no score, "UNREAD" cannot be read."""

    id: str = "length-gold"
    revision: str = "0"
    device: str = "cpu"
    backend: str = "counting"
    limits: BatchLimits = LIMITS
    notices: tuple[str, ...] = ("a stand-in of the tests",)
    encoder_base: str | None = None
    seen: list[str] = field(default_factory=list)
    """The responses that it scored."""

    def tokenize(self, exchange: Exchange) -> Tokens:
        if "UNREAD" in exchange.response:
            raise ValueError("UNREAD")
        return letters(exchange.response)

    def score(self, batch: Sequence[Tokens]) -> list[float]:
        self.seen += [text_of(tokens) for tokens in batch]
        return [float("nan") if "NAN" in text_of(tokens) else len(tokens) / 10 for tokens in batch]
