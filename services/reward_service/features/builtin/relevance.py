"""Relevance: dot product or cosine of two embeddings, of the response and the prompt (QR) or reference (RAR)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reward_service.features.feature import (
    UNBOUNDED,
    Feature,
    PromptVectors,
    Range,
    RecipeParameters,
    ReferenceVectors,
    Similarity,
    VectorPair,
)

__all__ = ["QUERY_RELEVANCE", "REFERENCE_RELEVANCE", "similarity"]


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


def _range(parameters: RecipeParameters) -> Range:
    return (-1.0, 1.0) if parameters.similarity is Similarity.COSINE else UNBOUNDED


QUERY_RELEVANCE = Feature(
    name="query_relevance",
    needs=PromptVectors,
    range=_range,
    label="Query relevance",
    description="similarity of prompt and response",
    log_key="relevance",
    compute=_compare,
)

REFERENCE_RELEVANCE = Feature(
    name="reference_relevance",
    needs=ReferenceVectors,
    range=_range,
    label="Reference relevance",
    description="similarity of reference and response",
    log_key="relevance",
    compute=_compare,
)
