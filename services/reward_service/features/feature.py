"""A feature: one interpretable number about a response, and the inputs it is computed from.

    needs                   computed                          compute receives
    RecipeOnly              once a recipe: a constant         parameters of the recipe
    ResponseText            before the models run             words and texts of the item
    PromptVectors           after the encoder                 embeddings of prompt and response
    ReferenceVectors        after the encoder                 embeddings of reference and response
    SentenceVectors         after the encoder                 embeddings of the sentences of the response
    GoldScore               after the gold model              its score

`compute` is a pure function of these inputs: it is called from several threads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from reward_client.wire import ChatMessage
from reward_service.features.text import WordKind, last_request, prompt_text, words

Range = tuple[float, float]
"""Lowest and highest value."""

UNBOUNDED: Range = (-math.inf, math.inf)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESULTS = ("reward", "gold_reward")
"""Names that tables and metrics have beside those of features."""


class Similarity(StrEnum):
    """How two embeddings are compared."""

    COSINE = "cosine"
    """In [-1, 1] for any encoder."""
    DOT = "dot"
    """Unnormalised: its scale depends on the encoder (the paper's choice, with Contriever)."""


class RecipeParameters(Protocol):
    """The parameters of a recipe that features may depend on."""

    @property
    def max_response_tokens(self) -> int:
        """The policy's limit on new tokens."""
        ...

    @property
    def similarity(self) -> Similarity:
        """How embeddings are compared."""
        ...

    @property
    def words(self) -> WordKind:
        """What counts as a word."""
        ...


@dataclass(frozen=True, slots=True)
class RecipeOnly:
    """Nothing of the item: the feature is a constant of the recipe."""

    parameters: RecipeParameters


@dataclass(frozen=True)
class ResponseText:
    """The texts of one item."""

    messages: Sequence[ChatMessage]
    """The conversation before the response."""
    response: str
    """The response, cut at the recipe's stop strings when the recipe cuts."""
    words: Sequence[str]
    """Words of `response`; see `features.text.words`."""
    reference: str | None
    parameters: RecipeParameters

    @cached_property
    def prompt(self) -> str:
        """The user's messages as one text."""
        return prompt_text(self.messages)

    @cached_property
    def prompt_words(self) -> Sequence[str]:
        """Words of `prompt`."""
        return words(self.prompt, self.parameters.words)

    @cached_property
    def request(self) -> str:
        """What the user's last message asks for; see `features.text.prompt`."""
        return last_request(self.messages)


@dataclass(frozen=True, slots=True)
class VectorPair:
    """Embeddings of the response and of the text it is compared with, each of shape (D,)."""

    text: NDArray[np.float32]
    response: NDArray[np.float32]
    parameters: RecipeParameters


class PromptVectors(VectorPair):
    """`text` is the prompt."""

    __slots__ = ()


class ReferenceVectors(VectorPair):
    """`text` is the reference; only items with a reference have it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SentenceVectors:
    """Embeddings of the first `MAX_SENTENCES` sentences of the response."""

    sentences: Sequence[str]
    """S sentences, in order; see `features.sentences`."""
    vectors: NDArray[np.float32]
    """Shape (S, D); (0, 0) for a response without sentences."""
    parameters: RecipeParameters


MAX_SENTENCES = 64
"""Bounds the encoder's work for one response."""


@dataclass(frozen=True, slots=True)
class GoldScore:
    """The gold reward model's score of the item."""

    score: float


EMBEDDINGS = (VectorPair, SentenceVectors)
"""Inputs that the encoder computes."""
_INPUTS = (RecipeOnly, ResponseText, PromptVectors, ReferenceVectors, SentenceVectors, GoldScore)


class FeatureError(ValueError):
    """A feature has no value, or no range; the message names the feature and the cause."""


InputsT = TypeVar("InputsT")


@dataclass(frozen=True, slots=True)
class Feature(Generic[InputsT]):
    """The complete definition of one feature."""

    name: str
    """Factor name in recipes and key in replies: lower-case letters, digits and underscores."""
    needs: type[InputsT]
    """The inputs that it is computed from."""
    range: Range | Callable[[RecipeParameters], Range]
    """Lowest and highest value, possibly depending on recipe parameters; or `UNBOUNDED`."""
    label: str
    """Short name for people: the reward page, charts, progress."""
    log_key: str | None
    """Key in OpenRLHF's `extra_logs`; None when the feature is not logged."""
    compute: Callable[[InputsT], float | None]
    """The value. With `ResponseText` it may be None: the feature does not apply to the item."""
    description: str = ""
    """How it is computed, in one line."""
    flags: Callable[[InputsT], Sequence[str]] | None = None
    """Observations about the item, which are added to the flags of its result."""
    applies_to: Literal["prompt", "response", "reference"] = "response"
    """Field of an item that decides whether the feature applies: an error names it if the feature has to."""
    reads_prompt: bool = True
    """With `ResponseText`: whether `compute` reads the conversation, which some clients do not send."""

    def __post_init__(self) -> None:
        for field, name in (("name", self.name), ("log_key", self.log_key)):
            if name is not None and not _NAME.fullmatch(name):
                raise ValueError(f"{field} {name!r} must be lower-case letters, digits and underscores")
        if self.log_key is not None and self.log_key.endswith("_measured"):
            raise ValueError(f"log_key {self.log_key!r} must not end in _measured: logs add that to other keys")
        if self.name in _RESULTS:
            raise ValueError(f"name {self.name!r} is reserved: results have it beside the features")
        if self.needs not in _INPUTS:
            raise ValueError(f"needs must be one of {', '.join(kind.__name__ for kind in _INPUTS)}")

    @property
    def needs_prompt(self) -> bool:
        """Whether the value depends on the prompt."""
        return self.needs in (PromptVectors, GoldScore) or (self.needs is ResponseText and self.reads_prompt)

    def bounds(self, parameters: RecipeParameters) -> Range:
        """Lowest and highest value under `parameters`. Raises FeatureError when `range` is not an interval."""
        try:
            low, high = map(float, self.range(parameters) if callable(self.range) else self.range)
        except Exception as exc:
            raise FeatureError(f"the range of feature {self.name} failed: {type(exc).__name__}: {exc}") from exc
        if not low <= high:
            raise FeatureError(f"the range of feature {self.name} is not an interval: [{low}, {high}]")
        return low, high

    def measure(self, inputs: InputsT) -> tuple[float | None, list[str]]:
        """The value, None when the feature does not apply to the item, and the flags. It may be NaN or infinite.

        Raises FeatureError when `compute` or `flags` fails, or when there is no value for a feature that is not
        computed from text.
        """
        try:
            value = self.compute(inputs)
            value = None if value is None else float(value)
            flags = [] if self.flags is None else list(map(str, self.flags(inputs)))
        except Exception as exc:
            raise FeatureError(f"feature {self.name} failed: {type(exc).__name__}: {exc}") from exc
        if value is None and self.needs is not ResponseText:
            raise FeatureError(f"feature {self.name} has no value; only features of ResponseText may return None")
        return value, flags
