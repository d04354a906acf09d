"""Fake models for tests, with outputs that are easy to calculate by hand."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reward_service.batching import BatchLimits
from reward_service.models.protocols import Embeddings, Exchange, RawText, Tokens

LIMITS = BatchLimits(max_tokens=100_000, max_items=64)


def letters(text: str) -> Tokens:
    """Tokenize a text for the fake models: one token per character."""
    return Tokens([ord(character) for character in text])


def text_of(tokens: Tokens) -> str:
    """Inverse of `letters`."""
    return "".join(map(chr, tokens.input_ids))


@dataclass
class LetterEncoder:
    """Embeds a text as its counts of the letters a to z; a text with "NAN" gives NaN, one with "BOOM" raises.

    It has no tokens for characters above U+FFFF, as emoji.
    """

    id: str = "letters"
    revision: str = "0"
    device: str = "cpu"
    backend: str = "counting"
    limits: BatchLimits = LIMITS
    calls: list[list[str]] = field(default_factory=list)
    gate: threading.Event | None = None
    """`embed` waits until this event is set, so that a test can keep the model busy."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        tokens = [letters(re.sub("[\U00010000-\U0010ffff]", "\ufffd", text)) for text in texts]
        return [replace(t, unknown_share=t.input_ids.count(0xFFFD) / max(1, len(t))) for t in tokens]

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        texts = [text_of(tokens) for tokens in batch]
        self.calls.append(texts)
        if self.gate is not None and not self.gate.wait(timeout=30):
            raise TimeoutError("the test did not set the gate")
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
    """Scores an exchange by the length of its response; "NAN" in it gives NaN, "UNREAD" cannot be tokenized."""

    id: str = "length-gold"
    revision: str = "0"
    device: str = "cpu"
    backend: str = "counting"
    limits: BatchLimits = LIMITS
    notices: tuple[str, ...] = ("a stand-in of the tests",)
    encoder_base: str | None = None
    seen: list[str] = field(default_factory=list)
    """The scored responses."""

    def tokenize(self, exchange: Exchange) -> Tokens:
        if "UNREAD" in exchange.response:
            raise ValueError("UNREAD")
        return letters(exchange.response)

    def tokenize_text(self, text: RawText) -> Tokens:
        if "UNREAD" in text.text:
            raise ValueError("UNREAD")
        return letters(text.text)

    def score(self, batch: Sequence[Tokens]) -> list[float]:
        self.seen += [text_of(tokens) for tokens in batch]
        return [float("nan") if "NAN" in text_of(tokens) else len(tokens) / 10 for tokens in batch]
