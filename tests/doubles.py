"""Stand-ins at the service's designed seams: models whose numbers a person can work out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reward_service.models.base import Embeddings, Exchange
from reward_service.models.gold import NonFiniteScoreError, UnreadableExchangeError


@dataclass
class LetterEncoder:
    """Embeds a text as its counts of the letters a to z; "NAN" anywhere in it gives NaN."""

    id: str = "letters"
    revision: str = "0"
    device: str = "cpu"
    calls: list[list[str]] = field(default_factory=list)
    gate: threading.Event | None = None
    """When set, `embed` waits for it: the way to hold the model busy."""

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.calls.append(list(texts))
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
    notices: tuple[str, ...] = ("a stand-in of the tests",)
    encoder_base: str | None = None
    seen: list[Exchange] = field(default_factory=list)

    def score(self, exchanges: Sequence[Exchange]) -> list[float]:
        self.seen += exchanges
        unread = {i: "cannot be read" for i, exchange in enumerate(exchanges) if "UNREAD" in exchange.response}
        if unread:
            raise UnreadableExchangeError("gold cannot read what it was given", unread)
        broken = {i: "score nan" for i, exchange in enumerate(exchanges) if "NAN" in exchange.response}
        if broken:
            raise NonFiniteScoreError("gold gave numbers that are none", broken)
        return [len(exchange.response) / 10 for exchange in exchanges]
