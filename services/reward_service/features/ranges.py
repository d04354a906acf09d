"""Ranges of a response for people who look at one reward: what text features see, and what repeats in it.

A range is [start, end), in code points of the response as it was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from reward_client.wire import ChatMessage
from reward_service.features.text import (
    ReadingRules,
    clean_response,
    opens_reasoning,
    split_reasoning,
    visible,
    words,
)

TextRange = tuple[int, int]


class MarkedRanges(NamedTuple):
    """Ranges of one response, in order, without overlaps."""

    evaluated: list[TextRange]
    """What text features see; the rest was cut or dropped. Invisible characters within a range do not count."""
    repeated: list[TextRange]
    """Words of trigrams that occur earlier in the evaluated text."""


def marked_ranges(response: str, messages: Sequence[ChatMessage], rules: ReadingRules, limit: int) -> MarkedRanges:
    """The first `limit` ranges of each kind in `response` after `messages`, as `read_response` reads it."""
    answer: Sequence[TextRange] = [(0, len(response))]
    if rules.reasoning == "drop":
        answer = split_reasoning(response, opened=opens_reasoning(messages)).answer_ranges
    text = "".join(response[start:end] for start, end in answer)
    offsets: Sequence[int] = range(len(response))
    if len(text) < len(response):
        offsets = [i for start, end in answer for i in range(start, end)]
    if rules.words == "unicode" and (shown := visible(text)) != text:
        text, offsets = shown, _offsets_of(shown, text, offsets)
    if rules.cut_response:
        cut = clean_response(text, rules.stop_strings)
        start = text.find(cut)
        text, offsets = cut, offsets[start : start + len(cut)]
    if not text:
        return MarkedRanges([], [])
    first, end = offsets[0], offsets[-1] + 1
    evaluated = ((max(a, first), min(b, end)) for a, b in answer if max(a, first) < min(b, end))
    repeated = ((offsets[a], offsets[b - 1] + 1) for a, b in _repeated(words(text, rules.words), text))
    return MarkedRanges(list(islice(evaluated, limit)), list(islice(repeated, limit)))


def _offsets_of(shown: str, text: str, offsets: Sequence[int]) -> list[int]:
    """Those of the characters of `text` that are left in `shown`."""
    kept: list[int] = []
    n_shown = len(shown)
    for offset, character in zip(offsets, text, strict=True):
        if len(kept) < n_shown and character == shown[len(kept)]:
            kept.append(offset)
    return kept


def _repeated(found: Sequence[str], text: str) -> Iterator[TextRange]:
    """Trigrams of the words `found` in `text` that occurred before, joined where they overlap."""
    spans: list[TextRange] = []
    for word in found:
        start = text.index(word, spans[-1][1] if spans else 0)  # no word begins in what is between words
        spans.append((start, start + len(word)))
    seen: set[tuple[str, ...]] = set()
    first, last = 0, -1
    """Words of the run of repeated trigrams so far."""
    for i, trigram in enumerate(zip(found, found[1:], found[2:], strict=False)):
        if trigram not in seen:
            seen.add(trigram)
        elif i <= last:
            last = i + 2
        else:
            if last >= 0:
                yield spans[first][0], spans[last][1]
            first, last = i, i + 2
    if last >= 0:
        yield spans[first][0], spans[last][1]
