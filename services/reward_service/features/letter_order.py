"""Whether the letters of a text are in an order that makes words, from 0 to 1.

Languages of `languages`: the mean over pairs of neighbouring letters of log(p(second | first) / p(second)), with
the frequencies of pairs in the common words of these languages. It is above 0 in ordinary text, and below -0.3
when the letters of each word are in random order. One standard error, about 1 / √pairs, is added, because a short
text has names and signs by chance. The value is 1 from -0.05 on, and 0.25 up to -0.4.

Chinese, Japanese and Thai: min(1, (1 + n) / (share × letters)), with n the number of function words and endings of
`unspaced_words.yaml`. All have at least two letters, so letters in random order have few of them.

Texts with fewer than 25 pairs or letters have the value 1. Cost: linear, and for languages without spaces bounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.resources import files

import numpy as np
import regex
import yaml
from numpy.typing import NDArray

from reward_service.features.content import COMMON_WORDS
from reward_service.features.languages import FUNCTION_WORDS

_FEWEST = 25
_N = 26
_OTHER = _N
"""Index of what is no letter."""
_LOW, _HIGH, _FLOOR = -0.4, -0.05, 0.25
_SMOOTHING = 2.0
"""Pairs that are assumed besides those counted, with the frequencies of independent letters."""

_INDEX = np.full(256, _OTHER, dtype=np.intp)
_INDEX[ord("a") : ord("z") + 1] = np.arange(_N)

_GRANTED = 1
_NEEDED = {"chinese": 0.05, "japanese": 0.1, "thai": 0.06}
"""Function words for each letter from which a text counts as language; ordinary text has more."""
_HAN, _KANA, _THAI = (regex.compile(f"[{s}]") for s in (r"\p{Han}", r"\p{Hiragana}\p{Katakana}", r"\p{Thai}"))
_READ_CHARS = 20_000
"""Characters of a text without spaces that are read: far more than an answer has."""
_KANA_SHARE = 0.15
"""Share of kana from which a text is Japanese."""


def latin_letter_order(text: str) -> float:
    """For a text in one of the languages of `languages`; pairs with an accented letter do not count."""
    letters = _indices(text)
    first, second = letters[:-1], letters[1:]
    is_pair = (first != _OTHER) & (second != _OTHER)
    n_pairs = int(is_pair.sum())
    if n_pairs < _FEWEST:
        return 1.0
    upper = float(_LOG_RATIO[first[is_pair], second[is_pair]].mean()) + 1 / math.sqrt(n_pairs)
    return _FLOOR + (1 - _FLOOR) * min(1.0, max(0.0, (upper - _LOW) / (_HIGH - _LOW)))


def unspaced_letter_order(text: str) -> float:
    """For a text in Chinese, Japanese or Thai; 1 for others."""
    text = text[:_READ_CHARS]
    if text.isascii():
        return 1.0
    n_han, n_kana, n_thai = (len(script.findall(text)) for script in (_HAN, _KANA, _THAI))
    chinese_or_japanese = "japanese" if n_kana >= _KANA_SHARE * (n_han + n_kana) else "chinese"
    n_letters, language = max((n_han + n_kana, chinese_or_japanese), (n_thai, "thai"))
    if n_letters < _FEWEST:
        return 1.0
    n_words = len(_UNSPACED_WORDS[language].findall(text))
    return min(1.0, (_GRANTED + n_words) / (_NEEDED[language] * n_letters))


def _indices(text: str) -> NDArray[np.intp]:
    """0 to 25 for a to z, whatever their case, and 26 for other characters."""
    return _INDEX[np.frombuffer(text.lower().encode("ascii", "replace"), dtype=np.uint8)]


def _log_ratio() -> NDArray[np.float64]:
    """log(p(second | first) / p(second)), shape (26, 26), counted in the words that the service knows."""
    words = [*COMMON_WORDS, *(word for known in FUNCTION_WORDS.values() for word in known)]
    letters = _indices(" ".join(words))
    counts = np.zeros((_N + 1, _N + 1))
    np.add.at(counts, (letters[:-1], letters[1:]), 1.0)
    pairs = counts[:_N, :_N]
    of_second = (pairs.sum(axis=0) + 0.5) / (pairs.sum() + 0.5 * _N)
    given_first = (pairs + _SMOOTHING * of_second) / (pairs.sum(axis=1, keepdims=True) + _SMOOTHING)
    log_ratio: NDArray[np.float64] = np.log(given_first / of_second)
    return log_ratio


_LOG_RATIO = _log_ratio()


def _unspaced_words() -> Mapping[str, regex.Pattern[str]]:
    lists = yaml.safe_load((files(__package__) / "unspaced_words.yaml").read_text(encoding="utf-8"))
    return {
        language: regex.compile("|".join(sorted(map(regex.escape, words.split()), key=len, reverse=True)))
        for language, words in lists.items()
    }


_UNSPACED_WORDS = _unspaced_words()
