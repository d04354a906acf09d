"""The words of a text, which length and repetition count.

`unicode`: the segments between Unicode's default word boundaries (UAX #29, of the library `regex`) that have a
letter or digit: `don't`, `3.14` and `U.S.A` are one word each; punctuation, symbols and emoji are none. Scripts
without spaces have no such boundaries, so a word is a number of their letters: 2 of Chinese and Japanese, 4 of
Thai, Lao, Khmer, Myanmar and relatives. The translations of the Universal Declaration of Human Rights have so
many letters for each of its 1753 English words: 1.5 in Chinese, 2.1 in Japanese, 4.1 in Thai, 4.4 in Lao, 3.5 in
Khmer, 3.7 in Burmese.

`wordpunct`: NLTK's wordpunct tokenization, which the paper counts: `don't` is three words, and unspaced text one.
"""

from __future__ import annotations

import re
from typing import Literal

import regex

WordKind = Literal["unicode", "wordpunct"]

_HAN_KANA = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
_SOUTH_EAST_ASIAN = r"\p{LB=SA}"
"""Line breaks of these scripts depend on words that only a dictionary knows."""
_ATTACHED = r"[\p{M}\u200c\u200d]*+"

_PATTERNS: dict[WordKind, regex.Pattern[str]] = {
    "unicode": regex.compile(
        rf"(?:[{_HAN_KANA}]{_ATTACHED}){{1,2}}"
        rf"|(?:[{_SOUTH_EAST_ASIAN}&&\p{{L}}]{_ATTACHED}){{1,4}}"
        rf"|[\p{{L}}\p{{N}}](?:\B.)*+",
        regex.V1 | regex.WORD | regex.DOTALL,
    ),
    # `\w` of `regex` contains combining marks and variation selectors; the standard library's does not.
    "wordpunct": regex.compile(r"\w+|[^\w\s]+"),
}

_ASCII = re.compile(
    r"[A-Za-z0-9]\w*(?:(?:(?<=[A-Za-z])[.':](?=[A-Za-z])|(?<=[0-9])[.',;](?=[0-9]))\w+)*",
    re.ASCII,
)
"""`unicode` for a text of ASCII characters, which most responses are, in a third of the time."""


def words(text: str, kind: WordKind = "wordpunct") -> list[str]:
    """The words of `text`, in order."""
    if kind == "unicode" and text.isascii():
        return _ASCII.findall(text)
    return _PATTERNS[kind].findall(text)
