"""Sentences of a text, by a stated rule.

A sentence ends at the end of a line, and at `.`, `!`, `?` or `…`, with closing quotation marks and brackets,
before white space; after a full-width form, always. A full stop after an abbreviation, an initial or the number
of a list item does not end one. What has no letter or digit is not a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import regex

_BOUNDARY = regex.compile(
    r"(?<=[.!?…][\"'”’»)\]*_]{0,4})[ \t]++(?:[.!?…]++[ \t]++)*+"
    r"|(?<=[。！？][」』”’]?)(?![。！？」』”’])"
    r"|[\r\n]++"
)
"""Repeated marks are one boundary, so that texts of nothing else take no longer than others."""
_ABBREVIATION = regex.compile(
    r"(?:[A-Z]|[Mm]rs?|[Mm]s|[Dd]rs?|[Pp]rof|[Ss]t|vs|etc|cf|ca|approx|[Ff]ig|e\.g|i\.e|z\.B)\."
)
_OPENING = "(\"'“"
_CONTEXT_CHARS = 12
"""Characters before a boundary that are searched for an abbreviation or a number: more than any of them has."""
_NUMBER_CHARS = 4
"""Of the largest number of a list item, with its full stop."""
_CONTENT = regex.compile(r"\w")


def sentences(text: str, limit: int | None = None) -> list[str]:
    """The sentences of `text` in order, or the first `limit` of them, without white space at their ends."""
    return list(islice(filter(_CONTENT.search, _parts(text)), limit))


def _parts(text: str) -> Iterator[str]:
    start = 0
    for boundary in _BOUNDARY.finditer(text):
        end = boundary.start()
        if end == boundary.end() or text[end] in "\r\n" or not _is_inside(text, end):
            yield text[start:end].strip()
            start = boundary.end()
    yield text[start:].strip()


def _is_inside(text: str, end: int) -> bool:
    """Whether the full stop before `end` belongs to an abbreviation, an initial or the number of a list item."""
    before = text[max(0, end - _CONTEXT_CHARS) : end]
    if before[-1] != "." or not before[-2:-1].isalnum():
        return False
    word = before.rsplit(None, 1)[-1].lstrip(_OPENING)
    if _ABBREVIATION.fullmatch(word):
        return True
    line = before[: -len(word)].rstrip(" \t")
    starts_line = line[-1] in "\r\n" if line else end <= _CONTEXT_CHARS
    return starts_line and len(word) <= _NUMBER_CHARS and word[:-1].isdecimal()
