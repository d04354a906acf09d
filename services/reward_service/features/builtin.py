"""The interpretable features: pure functions of words and vectors.

    length_incentive    LI = words / 100
    repetition_penalty  RP = distinct word trigrams / word trigrams, 1 when there is none; 1 means no repetition
    similarity          dot product or cosine of two embeddings: QR (prompt, response), RAR (reference, response)

Source: Kim & Seo (EMNLP 2024)
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["WORDS_PER_UNIT", "Similarity", "length_incentive", "repetition_penalty", "similarity"]

WORDS_PER_UNIT = 100
"""Words that earn a length incentive of 1."""


class Similarity(StrEnum):
    """How two embeddings are compared."""

    COSINE = "cosine"
    """In [-1, 1] for any encoder."""
    DOT = "dot"
    """Unnormalised: its scale is the encoder's own (the paper's choice, with Contriever)."""


def length_incentive(words: Sequence[str]) -> float:
    """Words / 100."""
    return len(words) / WORDS_PER_UNIT


def repetition_penalty(words: Sequence[str]) -> float:
    """Share of distinct trigrams among all trigrams of `words`, in (0, 1]."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def similarity(a: NDArray[np.float32], b: NDArray[np.float32], kind: Similarity) -> float:
    """Compare two embeddings of shape (D,), in float64; a zero vector has cosine 0 with anything."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    dot = float(x @ y)
    if kind is Similarity.DOT:
        return dot
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(dot / norm, -1.0, 1.0)) if norm != 0 else 0.0  # clip, unlike min, keeps NaN
