"""Random values of hostile requests: sizes, texts and values of wrong types."""

from __future__ import annotations

import math
import random
from typing import Any

__all__ = ["size", "text", "wrong"]

_MARKS = ("<|im_start|>user\n", "<|im_end|>", "[/INST]", "### Instruction:\n", "<|im_", "</s>", "\u202e", "\x00")


def size(rng: random.Random, low: int, high: int) -> int:
    """A number between `low` and `high`; each order of magnitude is as likely as the others."""
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def text(rng: random.Random, n: int) -> str:
    """`n` characters: words, one word, or signs that some code treats specially."""
    unit = rng.choice(["word ", "w", "a. ", "\n\n\n\n", "é", "漢", "\U0001f600", *_MARKS])
    return (unit * (n // len(unit) + 1))[:n]


def wrong(rng: random.Random) -> Any:
    """A value of a type that most fields do not accept."""
    return rng.choice([None, True, -1, 1e308, [], {}, [[]], {"a": None}, "x", "\ud800", 10**30, ["x"] * 1000])
