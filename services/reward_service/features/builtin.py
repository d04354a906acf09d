"""The features that ship with the service; those of other modules are listed in `BUILTIN`.

The source of these, except for semantic novelty, is Kim & Seo (EMNLP 2024):

length_incentive      LI = words / 100
repetition_penalty    RP: see `repetition`
query_relevance       QR = dot product or cosine of the embeddings of response and prompt
reference_relevance   RAR = the same of response and reference
max_length_incentive  the constant LI of the longest response, which scales closed-ended rewards
semantic_novelty      1 - mean over sentences of the cosine with the nearest other sentence; 1 for fewer than two
gold                  the gold reward model's score: training on a reward model is the paper's baseline
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_service.features.conciseness import CONCISENESS
from reward_service.features.content import CONTENT_DENSITY, CONTENT_WORDS
from reward_service.features.copying import COPYING_PENALTY
from reward_service.features.feature import (
    UNBOUNDED,
    Feature,
    GoldScore,
    PromptVectors,
    Range,
    RecipeOnly,
    RecipeParameters,
    ReferenceVectors,
    ResponseText,
    SentenceVectors,
    Similarity,
    VectorPair,
)
from reward_service.features.finished import FINISHED
from reward_service.features.meta_talk import META_TALK_PENALTY
from reward_service.features.reference_match import REFERENCE_MATCH
from reward_service.features.repetition import REPETITION_PENALTY
from reward_service.features.requested_form import REQUESTED_FORM
from reward_service.features.requested_items import REQUESTED_ITEMS
from reward_service.features.requested_length import REQUESTED_LENGTH
from reward_service.features.running_text import RUNNING_TEXT
from reward_service.features.word_order import WORD_ORDER

_WORDS_PER_UNIT = 100
"""Words with a length incentive of 1."""


def length_incentive(words: Sequence[str]) -> float:
    """Words / 100."""
    return len(words) / _WORDS_PER_UNIT


def _longest(parameters: RecipeParameters) -> float:
    """Length incentive of the longest response; a word is about a token, so tokens bound words."""
    return parameters.max_response_tokens / _WORDS_PER_UNIT


def _length_range(parameters: RecipeParameters) -> Range:
    return 0.0, _longest(parameters)


def _constant(parameters: RecipeParameters) -> Range:
    return _longest(parameters), _longest(parameters)


LENGTH_INCENTIVE = Feature(
    name="length_incentive",
    needs=ResponseText,
    range=_length_range,
    label="Length incentive",
    description="words / 100",
    log_key="length_incentive",
    compute=lambda inputs: length_incentive(inputs.words),
    reads_prompt=False,
)

MAX_LENGTH_INCENTIVE = Feature(
    name="max_length_incentive",
    needs=RecipeOnly,
    range=_constant,
    label="Longest answer's incentive",
    description="allowed tokens / 100: puts both query types on one scale",
    log_key=None,
    compute=lambda inputs: _longest(inputs.parameters),
)


def similarity(a: NDArray[np.float32], b: NDArray[np.float32], kind: Similarity) -> float:
    """Compare two embeddings of shape (D,), in float64; the cosine with a zero vector is 0."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    dot = float(x @ y)
    if kind is Similarity.DOT:
        return dot
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(dot / norm, -1.0, 1.0)) if norm != 0 else 0.0  # clip, unlike min, keeps NaN


def _compare(inputs: VectorPair) -> float:
    return similarity(inputs.text, inputs.response, inputs.parameters.similarity)


def _relevance_range(parameters: RecipeParameters) -> Range:
    return (-1.0, 1.0) if parameters.similarity is Similarity.COSINE else UNBOUNDED


QUERY_RELEVANCE = Feature(
    name="query_relevance",
    needs=PromptVectors,
    range=_relevance_range,
    label="Query relevance",
    description="similarity of prompt and response",
    log_key="relevance",
    compute=_compare,
)

REFERENCE_RELEVANCE = Feature(
    name="reference_relevance",
    needs=ReferenceVectors,
    range=_relevance_range,
    label="Reference relevance",
    description="similarity of reference and response",
    log_key="relevance",
    compute=_compare,
)


def semantic_novelty(vectors: NDArray[np.float32]) -> float:
    """One minus the mean cosine of each row of `vectors`, shape (S, D), with its nearest other row.

    A negative cosine counts as 0; the value is 1 for fewer than two rows.
    """
    if len(vectors) < 2:
        return 1.0
    rows = vectors.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms == 0, 1.0, norms)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1.0)
    return 1.0 - float(np.clip(cosines.max(axis=1), 0.0, 1.0).mean())  # clip keeps NaN


SEMANTIC_NOVELTY = Feature(
    name="semantic_novelty",
    needs=SentenceVectors,
    range=(0.0, 1.0),
    label="Semantic novelty",
    description="1 - mean similarity of each sentence to the nearest other one",
    log_key="semantic_novelty",
    compute=lambda inputs: semantic_novelty(inputs.vectors),
)


GOLD = Feature(
    name="gold",
    needs=GoldScore,
    range=UNBOUNDED,
    label="Gold",
    description="the gold reward model's score",
    log_key="gold_reward",
    compute=lambda inputs: inputs.score,
)

ALWAYS_REPORTED: tuple[Feature[Any], ...] = (
    LENGTH_INCENTIVE,
    REPETITION_PENALTY,
    QUERY_RELEVANCE,
    REFERENCE_RELEVANCE,
)
"""Listed in every result, in this order; other features only if the recipe uses them."""

BUILTIN: tuple[Feature[Any], ...] = (
    *ALWAYS_REPORTED,
    MAX_LENGTH_INCENTIVE,
    GOLD,
    SEMANTIC_NOVELTY,
    REFERENCE_MATCH,
    CONTENT_WORDS,
    CONTENT_DENSITY,
    REQUESTED_LENGTH,
    REQUESTED_ITEMS,
    REQUESTED_FORM,
    COPYING_PENALTY,
    META_TALK_PENALTY,
    RUNNING_TEXT,
    WORD_ORDER,
    FINISHED,
    CONCISENESS,
)
"""In the order in which replies and the reward page list them."""
