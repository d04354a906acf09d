"""Repetition: RP = distinct word trigrams / word trigrams, 1 for fewer than three words; 1 means no repetition."""

from __future__ import annotations

from collections.abc import Sequence

from reward_service.features.feature import Feature, ResponseText

__all__ = ["REPETITION_PENALTY", "repetition_penalty"]


def repetition_penalty(words: Sequence[str]) -> float:
    """Share of distinct trigrams among all trigrams of `words`, in (0, 1]."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


REPETITION_PENALTY = Feature(
    name="repetition_penalty",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Repetition penalty",
    description="distinct / all word trigrams; 1 means no repetition",
    log_key="repetition_penalty",
    compute=lambda inputs: repetition_penalty(inputs.words),
)
