"""Sentences of a text, by a stated rule.

A sentence ends at the end of a line, and at `.`, `!`, `?` or `…`, with closing quotation marks and brackets,
before white space; after a full-width form, always. A full stop after an abbreviation, an initial or the number
of a list item does not end one. What has no letter or digit is not a sentence.
"""

from __future__ import annotations

import regex

_BOUNDARY = regex.compile(r"(?<=[.!?…][\"'”’»)\]*_]{0,4})[ \t]+|(?<=[。！？][」』”’]?)(?![」』”’])|[\r\n]+")
_ABBREVIATION = regex.compile(
    r"(?:^|[\s(\"'“])(?:[A-Z]|[Mm]rs?|[Mm]s|[Dd]rs?|[Pp]rof|[Ss]t|vs|etc|cf|ca|approx|[Ff]ig|e\.g|i\.e|z\.B)\.$"
)
_LIST_NUMBER = regex.compile(r"(?:^|[\r\n])[ \t]*\d{1,3}\.$")
_CONTEXT_CHARS = 12
"""Characters before a boundary that are searched for an abbreviation or a number."""
_CONTENT = regex.compile(r"\w")


def sentences(text: str) -> list[str]:
    """The sentences of `text` in order, without white space at their ends."""
    found: list[str] = []
    start = 0
    for boundary in _BOUNDARY.finditer(text):
        if _is_inside(text, boundary.start(), boundary.group()):
            continue
        found.append(text[start : boundary.start()].strip())
        start = boundary.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if _CONTENT.search(sentence)]


def _is_inside(text: str, end: int, gap: str) -> bool:
    """Whether the white space `gap` at `end` separates words of one sentence."""
    if not gap or gap[0] in "\r\n":
        return False
    before = text[max(0, end - _CONTEXT_CHARS) : end]
    return bool(_ABBREVIATION.search(before) or _LIST_NUMBER.search(before))
