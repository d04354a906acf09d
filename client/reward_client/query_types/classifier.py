"""The classifier: logistic regression on the features of `cues`, with the weights in model.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from reward_client.query_types.cues import MAX_CHARS, features
from reward_client.wire import QueryType


@dataclass(frozen=True, slots=True)
class Guess:
    """The query type of a prompt, as the classifier sees it."""

    query_type: QueryType
    confidence: float
    """Estimated probability that it is right, from 0.5 to 1."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """Weights by feature: positive ones are for closed-ended prompts."""

    bias: float
    weights: Mapping[str, float]

    def guess(self, prompt: str) -> Guess | None:
        """The query type of `prompt`; None for one without a letter or digit in the part that is read."""
        if not any(c.isalnum() for c in prompt[:MAX_CHARS]):
            return None
        score = self.bias + sum(self.weights.get(name, 0.0) for name in sorted(features(prompt)))
        closed = 1 / (1 + math.exp(-max(-50.0, min(50.0, score))))
        query_type = QueryType.CLOSED_ENDED if closed >= 0.5 else QueryType.OPEN_ENDED
        return Guess(query_type, max(closed, 1 - closed))


@cache
def embedded_classifier() -> Classifier:
    """The classifier of this package."""
    content = json.loads((files("reward_client.query_types") / "model.json").read_text(encoding="utf-8"))
    return Classifier(content["bias"], content["weights"])
