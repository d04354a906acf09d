"""Whether a response commits to the right value, for kinds whose values can be found in text.

boxed values, announced answers, bare values, results of the prompt's own expression
    if there are any: all of them must be right
    otherwise: the last sentence that concludes with a value that the prompt does not give
a right value next to a wrong one, joined by "or", a slash or a comma, is never right
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Generic, TypeVar

from reward_service.features.reference_match.plain import boxed, key, plain, unboxed, window
from reward_service.features.reference_match.statements import (
    CONCLUSION,
    CONTRAST,
    HEDGE,
    LINK,
    NEGATED_AFTER,
    NEGATED_BEFORE,
    REASON,
    announced,
    asserted,
    last_correction,
)

ValueT = TypeVar("ValueT")

_NEAR = 60
"""Characters within which two values can be alternatives of each other."""

_JOINERS = re.compile(
    r"[\s,;/&|()\[\]{}\"':.–-]*(?:\b(?:and|or|then|maybe|perhaps|possibly|even|either|to|also|oder|option|about|just)\b"
    r"[\s,;/&|()\[\]{}\"':.–-]*)*",
    re.IGNORECASE,
)
"""What may separate two values that are listed side by side."""

_FILLER = re.compile(
    r"\b(?:it|that|this|they|there|is|it's|that's|are|was|so|and|or|then|approximately|about|roughly|exactly|on|in|at|the|a|an|just|only|"
    r"maybe|perhaps|possibly|either|think|say|believe|would|choose|pick|option|not|[a-jxy])\b|[^\w]",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"\band\b|[,;]\s", re.IGNORECASE)
_COPULA = re.compile(r"\b(?:is|are|was|were)\b", re.IGNORECASE)
_OPERATOR = re.compile(r"[+*/×÷·^]|(?<=\s)-(?=\s)|\\|\bx\b")


@dataclass(frozen=True, slots=True)
class Mention(Generic[ValueT]):
    """A value found in a text."""

    start: int
    end: int
    value: ValueT


@dataclass(frozen=True, slots=True)
class Question(Generic[ValueT]):
    """A prompt, and how values of its kind are found and compared."""

    prompt: str
    find: Callable[[str], Sequence[Mention[ValueT]]]
    """Values in a text, in order, without overlaps."""
    accepts: Callable[[ValueT], bool]
    """Whether a value is that of the reference."""
    is_given: Callable[[ValueT], bool] = lambda _value: False
    """Whether a value occurs in the prompt: an answer rarely does."""
    echo: str = ""
    """A part of the prompt that answers nothing when a response repeats it."""


class _RejectedError(Exception):
    """The response rejects the right value, or leaves it open."""


def commits_to(question: Question[ValueT], response: str) -> bool:
    """Whether the answer that `response` commits to is right."""
    question = replace(question, find=cache(question.find))
    text = window(response)
    in_boxes = [mention for content in boxed(text) for mention in question.find(plain(content))]
    text = plain(unboxed(text))
    text = text.replace(question.echo, " ") if question.echo else text
    said = asserted(last_correction(text, lambda part: bool(question.find(part))), question.prompt)
    try:
        firm = list(in_boxes)
        for place, sentence in enumerate(said):
            firm += _firm(question, sentence, opens=place == 0)
        chosen = firm or _concluded(question, said)
    except _RejectedError:
        return False
    return bool(chosen) and all(question.accepts(mention.value) for mention in chosen)


def _firm(question: Question[ValueT], sentence: str, *, opens: bool) -> list[Mention[ValueT]]:
    """The values that `sentence` presents as the answer. Raises _RejectedError."""
    mentions = _standing(question, sentence)
    _refuse_alternatives(question, sentence, mentions)
    tails = announced(sentence)
    if tails:
        asked = replace(question, is_given=lambda _value: False)
        return [mention for tail in tails for mention in _chosen(asked, tail, _standing(asked, tail))]
    if mentions and _is_bare(question, sentence, mentions, opens=opens):
        return mentions
    left, equals, _ = sentence.partition("=")
    if equals and _squashed(left) and _squashed(left) in _squashed(question.prompt):
        return _chosen(question, sentence, mentions)
    return []


def _is_bare(
    question: Question[ValueT], sentence: str, mentions: Sequence[Mention[ValueT]], *, opens: bool
) -> bool:
    """Whether `sentence` consists of values alone; the first one of a response may have a noun more."""
    found = question.find(sentence)
    rest, start = _without(sentence, found), mentions[0].end
    after = _without(sentence[start:], [mention for mention in found if mention.start >= start], start)
    if "=" in rest or _OPERATOR.search(rest) or _COPULA.search(after):
        return False
    words = _FILLER.sub(" ", rest).split()
    begins = not _FILLER.sub("", sentence[: mentions[0].start])
    return not words or (opens and begins and len(words) == len(mentions) == 1)


def _squashed(text: str) -> str:
    """`text` without spaces, if it is an expression with an operator."""
    return "".join(text.split()).casefold() if _OPERATOR.search(text) else ""


def _concluded(question: Question[ValueT], said: Sequence[str]) -> list[Mention[ValueT]]:
    """The values of the last sentence that ends in a value that is not given; of the last with any otherwise."""
    fallback: list[Mention[ValueT]] = []
    for sentence in reversed(said):
        chosen = _chosen(question, sentence, _standing(question, sentence))
        if chosen and (CONCLUSION.match(sentence) or not all(question.is_given(m.value) for m in chosen)):
            return chosen
        fallback = fallback or chosen
    return fallback


def _chosen(
    question: Question[ValueT], sentence: str, mentions: Sequence[Mention[ValueT]]
) -> list[Mention[ValueT]]:
    """The values among `mentions` that `sentence` commits to: one, or several that are listed side by side."""
    mentions = _before_reason(question, sentence, mentions)
    mentions = _after_contrast(sentence, mentions)
    if "=" in sentence:
        return _of_equation(sentence, mentions)
    fresh = [m for m in mentions if not question.is_given(m.value)] or list(mentions)
    if not fresh:
        return []
    if len(fresh) == 1:
        return _chain(sentence, mentions, mentions.index(fresh[0]))
    if _is_subject(sentence, fresh[0], fresh[1]):
        return [fresh[0]]
    if asked_for := _in_clause_of(question.prompt, sentence, fresh):
        return asked_for
    links = [link.end() for link in LINK.finditer(sentence) if link.end() <= fresh[-1].start]
    first = next(i for i, m in enumerate(fresh) if m.start >= links[-1]) if links else len(fresh) - 1
    return _chain(sentence, fresh, first)


def _in_clause_of(prompt: str, sentence: str, mentions: Sequence[Mention[ValueT]]) -> list[Mention[ValueT]]:
    """The mentions of the one clause with the question's last word: "opens on …, closes on …" for "… open?"."""
    verb = (key(prompt.split("?")[0]).split() or [""])[-1][:4]
    ends = [*(clause.start() for clause in _CLAUSE.finditer(sentence)), len(sentence)]
    clauses = [(start, end) for start, end in pairwise([0, *ends])]
    found = [
        (start, end) for start, end in clauses if len(verb) > 2 and f" {verb}" in f" {key(sentence[start:end])}"
    ]
    inside = [[m for m in mentions if start <= m.start < end] for start, end in clauses]
    if len(found) != 1 or sum(map(bool, inside)) < 2:
        return []
    return inside[clauses.index(found[0])]


def _is_subject(sentence: str, first: Mention[ValueT], second: Mention[ValueT]) -> bool:
    """Whether `sentence` begins with the first value and describes it, other than by the second."""
    copula = re.compile(r"\W*(?:is|are|was|were)\s(?:equal to\s|about\s)?").match(sentence, first.end)
    begins = not sentence[: first.start].strip(" \"'(*")
    return begins and copula is not None and copula.end() < second.start


def _chain(sentence: str, mentions: Sequence[Mention[ValueT]], place: int) -> list[Mention[ValueT]]:
    """The mention at `place` and those that are joined to it by separators."""
    first = last = place
    while first > 0 and are_joined(sentence, mentions[first - 1], mentions[first]):
        first -= 1
    while last + 1 < len(mentions) and are_joined(sentence, mentions[last], mentions[last + 1]):
        last += 1
    return list(mentions[first : last + 1])


def are_joined(sentence: str, a: Mention[ValueT], b: Mention[ValueT]) -> bool:
    """Whether only separators, such as a comma or "or", are between two values."""
    return b.start - a.end <= _NEAR and _JOINERS.fullmatch(sentence, a.end, b.start) is not None


def _before_reason(
    question: Question[ValueT], sentence: str, mentions: Sequence[Mention[ValueT]]
) -> Sequence[Mention[ValueT]]:
    """Without those after a word such as "because", if a new value precedes it."""
    new = [m for m in mentions if not question.is_given(m.value)][:1] or mentions[-1:]
    for reason in REASON.finditer(sentence) if new else ():
        if new[0].end <= reason.start():
            return [m for m in mentions if m.end <= reason.start()]
    return mentions


def _after_contrast(sentence: str, mentions: Sequence[Mention[ValueT]]) -> Sequence[Mention[ValueT]]:
    """Those after the last "but", if there are any."""
    for contrast in CONTRAST.finditer(sentence):
        mentions = [m for m in mentions if m.start >= contrast.end()] or mentions
    return mentions


def _of_equation(sentence: str, mentions: Sequence[Mention[ValueT]]) -> list[Mention[ValueT]]:
    """The value alone on one side of the last equals sign that any follows, the right side first."""
    sides = sentence.split("=")
    start = len(sentence)
    for side in reversed(sides):
        start -= len(side)
        inside = [m for m in mentions if start <= m.start < start + len(side)]
        if inside and not _OPERATOR.search(_without(side, inside, start).split(",")[0]):
            return _chain(sentence, inside, 0)
        start -= 1
    return list(mentions[-1:])


def _without(text: str, mentions: Sequence[Mention[ValueT]], offset: int = 0) -> str:
    """`text` without the mentions in it; their positions count from `offset` before it."""
    parts, last = [], 0
    for mention in mentions:
        parts.append(text[last : mention.start - offset])
        last = mention.end - offset
    return " ".join([*parts, text[last:]])


def _standing(question: Question[ValueT], sentence: str) -> list[Mention[ValueT]]:
    """The values in `sentence` that it does not negate. Raises _RejectedError if it negates the right one."""
    mentions = list(question.find(sentence))
    standing: list[Mention[ValueT]] = []
    negated_after = False
    for place in reversed(range(len(mentions))):
        mention = mentions[place]
        listed = place + 1 < len(mentions) and are_joined(sentence, mention, mentions[place + 1])
        negated_after = bool(NEGATED_AFTER.match(sentence, mention.end)) or (negated_after and listed)
        before = NEGATED_BEFORE.search(sentence[max(0, mention.start - 40) : mention.start])
        if not before and not negated_after:
            standing.append(mention)
        elif question.accepts(mention.value):
            raise _RejectedError
    return standing[::-1]


def _refuse_alternatives(question: Question[ValueT], sentence: str, mentions: Sequence[Mention[ValueT]]) -> None:
    """Raise _RejectedError for a right and a wrong value with "or" or "maybe" between or before them."""
    for a, b in pairwise(mentions):
        right = question.accepts(a.value), question.accepts(b.value)
        between = sentence[a.end : b.start]
        echoed = question.is_given(a.value) and question.is_given(b.value) and b is not mentions[-1]
        if any(right) and not all(right) and not echoed and _is_hedge(sentence, between):
            raise _RejectedError


def _is_hedge(sentence: str, between: str) -> bool:
    slash = between.strip() == "/" and "=" not in sentence
    return len(between) < _NEAR and (slash or HEDGE.search(between) is not None)
