"""Lists: the same items in any order. The value is items in both / items in either; 0 for lists joined by "or"."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from reward_service.features.reference_match.number import find_numbers
from reward_service.features.reference_match.plain import boxed, key, plain, unboxed, window
from reward_service.features.reference_match.statements import (
    LINK,
    announced,
    asserted,
    last_correction,
    without_markers,
)

Item = str | Fraction

_OPEN = "…"
"""Marks the items of a text that offers alternative lists."""

_MAX_ITEMS, _MAX_WORDS, _MAX_LINKS = 50, 4, 8
_SPLIT = re.compile(r"\s*(?:[,;\n|&•]|\band\b)\s*", re.IGNORECASE)
_ASKS_FOR_SEVERAL = re.compile(
    r"\b(?:list|name (?:the|all|two)|which (?:are|two|\w{2,20}s\b)|what are|who are|two|both|all)\b", re.IGNORECASE
)
_SOLUTIONS = re.compile(r"=[^=]*\bor\b[^=]*=", re.IGNORECASE)
"""The solutions of an equation: "x = 2 or x = 3" names both."""
_OR = re.compile(r"\bor\b", re.IGNORECASE)
_BULLETED = re.compile(r"^[ \t]{0,12}(?:[-*•+–]|\d{1,2}[.)])[ \t]+\S")
_ASIDE = re.compile(r"\([^()]{0,200}\)|\s[-–—:]\s.{0,300}|:\s.{0,300}")


def read_list(reference: str, prompt: str) -> Callable[[str], float] | None:
    """The judge of responses to a reference of several short items; None otherwise."""
    text = plain(unboxed(reference)).strip().rstrip(".")
    are_solutions = _SOLUTIONS.search(text) is not None
    text = _OR.sub("and", text) if are_solutions else text
    parts = [part for part in _SPLIT.split(text.strip("[]{}()")) if part]
    if not 2 <= len(parts) <= _MAX_ITEMS or any(len(part.split()) > _MAX_WORDS for part in parts):
        return None
    marked = len(parts) > 2 or text.count("=") > 1 or re.search(r"[;\n|&•]|\band\b", text) or text[0] in "[{"
    wanted = frozenset(map(_item, parts))
    if len(wanted) < 2 or not (marked or _ASKS_FOR_SEVERAL.search(prompt)):
        return None
    asked = plain(prompt)
    return lambda response: _share(
        _OR.sub("and", window(response)) if are_solutions else window(response), asked, wanted
    )


def _item(text: str) -> Item:
    """An item for comparison: its number if it is one, else its words."""
    stripped = re.sub(r"^[a-z]\s?=\s?", "", text.strip(" \t\"'.!*[](){}"))
    numbers = find_numbers(stripped)
    if (
        len(numbers) == 1
        and numbers[0].end - numbers[0].start == len(stripped)
        and numbers[0].value.value is not None
    ):
        return numbers[0].value.value
    return key(stripped)


def _share(response: str, prompt: str, wanted: frozenset[Item]) -> float:
    lists = [items for items in _lists(response, prompt, wanted) if len(items & wanted) * 2 >= len(wanted)]
    if any(_OPEN in items for items in lists):
        return 0.0
    return min((len(items & wanted) / len(items | wanted) for items in lists), default=0.0)


def _lists(response: str, prompt: str, wanted: frozenset[Item]) -> list[frozenset[Item]]:
    """The lists in `response` that may be its answer: boxed, announced, bulleted, or within a sentence."""
    in_boxes = boxed(response)
    if in_boxes:
        return [_items(plain(content), wanted) for content in in_boxes]
    text = last_correction(plain(response), lambda part: bool(_items(part, wanted) & wanted))
    lines = text.splitlines()
    bulleted = [bare for line, bare in zip(lines, without_markers(lines), strict=True) if _BULLETED.match(line)]
    found = [frozenset(_item(_ASIDE.sub("", line)) for line in bulleted)] if len(bulleted) > 1 else []
    rest = "\n".join(line for line in lines if not _BULLETED.match(line)) if found else text
    said = asserted(rest, prompt)
    tails = [tail for sentence in said for tail in announced(sentence) if tail.strip()]
    if tails:
        return found + [_items(tail, wanted) for tail in tails]
    return found + [_items(_complement(sentence, wanted), wanted) for sentence in said] + _by_line(lines, found)


def _by_line(lines: list[str], found: list[frozenset[Item]]) -> list[frozenset[Item]]:
    """One item a line, in a response without another list."""
    short = [line for line in lines if line.strip()]
    is_list = not found and len(short) > 1 and all(len(line.split()) <= _MAX_WORDS for line in short)
    return [frozenset(map(_item, short))] if is_list else []


def _complement(sentence: str, wanted: frozenset[Item]) -> str:
    """The part of `sentence` after its last "is", "are" or colon with an item after it; all of it otherwise."""
    for link in list(LINK.finditer(sentence))[: -_MAX_LINKS - 1 : -1]:
        tail = sentence[link.end() :]
        if _items(tail, wanted) & wanted:
            return tail
    return re.split(r"\b(?:is|are|were|have|make)\b", sentence, maxsplit=1)[0]


def _items(text: str, wanted: frozenset[Item]) -> frozenset[Item]:
    """The items of `text`, or all that are wanted and `_OPEN`."""
    if re.search(r"\b(?:or|maybe|perhaps)\b", text, re.IGNORECASE):
        return wanted | {_OPEN}
    text = _ASIDE.sub("", text)
    parts = [part for part in _SPLIT.split(text) if part.strip(" .!?[](){}\"'")]
    single = all(isinstance(item, Fraction) or " " not in item for item in wanted)
    if len(parts) == 1 and single:
        parts = text.split()
    return frozenset(map(_item, parts[: 10 * _MAX_ITEMS]))
