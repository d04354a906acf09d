"""Repetition of a response, as one number in (0, 1]: 1 means no repetition.

    of words        distinct / all word trigrams                              Kim & Seo (EMNLP 2024)
    of characters   distinct / all runs of 16 characters, 1 from a third on   sees loops without words: hahaha
    of neighbours   1 up to a tenth of doubled characters, 0 from a half on   only scripts without spaces: 绿绿茶茶

Under `words: wordpunct` the first; under `words: unicode` the smallest. Honest prose, code, tables and
lists have more than a third of distinct runs (docs/reference/text.md), so only loops lose by the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.text import WordKind

RUN_CHARS = 16
"""Characters of a run, a power of two: about three words of English."""

FREE_SHARE = 1 / 3
"""Share of distinct runs from which on there is no penalty."""

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{LB=SA}]"
_LETTER, _DOUBLED = regex.compile(_UNSPACED), regex.compile(rf"({_UNSPACED})\1")
_FREE_DOUBLED, _ALL_DOUBLED = 0.1, 0.5
"""Pairs of equal neighbours / letters: words such as 慢慢 are free, and every character twice is a half."""

_BASE = 0x9E3779B97F4A7C15
"""A run's hash is a polynomial of its characters in this base, modulo 2 ** 64."""


def repetition_penalty(text: str, words: Sequence[str], kind: WordKind) -> float:
    """Repetition of `text`, whose words of `kind` are `words`."""
    by_words = word_repetition(words)
    if kind != "unicode":
        return by_words
    return min(by_words, character_repetition(text), doubled_characters(text))


def word_repetition(words: Sequence[str]) -> float:
    """Share of distinct trigrams among all trigrams of `words`; 1 for fewer than three words."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def character_repetition(text: str) -> float:
    """Share of distinct runs of 16 characters in `text`, divided by `FREE_SHARE`, at most 1.

    Several spaces or tabs count as one, because code is indented and tables are aligned.
    """
    return min(1.0, _distinct_runs(text) / FREE_SHARE)


def doubled_characters(text: str) -> float:
    """1 for text whose letters of scripts without spaces are not doubled, 0 if all of them are."""
    pairs = 0 if text.isascii() else len(_DOUBLED.findall(text))
    if not pairs:
        return 1.0
    share = pairs / len(_LETTER.findall(text))
    return min(1.0, max(0.0, (_ALL_DOUBLED - share) / (_ALL_DOUBLED - _FREE_DOUBLED)))


def _distinct_runs(text: str) -> float:
    """Distinct / all runs of 16 characters of `text`; 1 for a shorter text."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    blank = (codes == ord(" ")) | (codes == ord("\t"))
    hashes = np.delete(codes, np.flatnonzero(blank[1:] & blank[:-1]))
    if len(hashes) < RUN_CHARS:
        return 1.0
    length = 1
    while length < RUN_CHARS:
        hashes = hashes[:-length] * np.uint64(pow(_BASE, length, 2**64)) + hashes[length:]
        length *= 2
    hashes.sort()  # with numpy's vector instructions 40 times as fast as `np.unique`
    return (1 + int(np.count_nonzero(hashes[1:] != hashes[:-1]))) / len(hashes)


REPETITION_PENALTY = Feature(
    name="repetition_penalty",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Repetition penalty",
    description="distinct / all word trigrams, or runs of characters if there are fewer; 1 means no repetition",
    log_key="repetition_penalty",
    compute=lambda inputs: repetition_penalty(inputs.response, inputs.words, inputs.parameters.words),
    reads_prompt=False,
)
