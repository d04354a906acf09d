"""`requested_length`: how well the response has the length that the prompt requests, from 0 to 1.

    "in 50 words", "a 200-word essay", "three sentences", "2-3 paragraphs", "at most ten lines", "99 characters"
    "briefly", "keep it short", "a short answer": 8 to 60 words; "in a few words": 2 to 12

With n the count of the requested unit and [low, high] the requested interval, the value is min(n / low, 1)
below the interval and (high / n)² above it. "50 words" has a tolerance of a tenth, "about" of a fifth; "at most
50 words" is met from a quarter of it. A number is a request where it has a bound, or a word before or after it
that requests ("in", "write", "an essay of", "please"); fewer than 50 characters are none, because they are those
of passwords and stories ("a story with two characters"). A sentence of more than 40 words and a paragraph of more
than 200 count as several, because one endless sentence is not what was requested; units of very few words count as
less than one. Of several requests the worst counts. Without a request the feature does not apply. Only English
requests are understood. Cost: linear in the response; of a long prompt only both ends are read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.sentences import sentences

_NUMBERS = {
    **dict.fromkeys(("a", "one", "a single", "a one", "single"), 1),
    **dict.fromkeys(("two", "a couple of"), 2),
    **dict.fromkeys(("three", "a few"), 3),
    **{"four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12},
    **{
        "fifteen": 15,
        "twenty": 20,
        "thirty": 30,
        "forty": 40,
        "fifty": 50,
        "sixty": 60,
        "seventy": 70,
        "eighty": 80,
    },
    **{"ninety": 90, "a hundred": 100, "one hundred": 100, "two hundred": 200},
}
_ARTICLE = regex.compile(
    r"\b(?:in|into|to|as|with|write|use|give|only|just)\s+a\b|\ba \w+ or two\b", regex.IGNORECASE
)
"""Contexts in which "a sentence" requests one: not "the end of a sentence"."""
_VAGUE = ("a", "a few", "a couple of")
"""Numbers that are no request with small units: "a word", "a few words"."""
_AT_MOST = (
    *("at most", "no more than", "not more than", "up to", "a maximum of", "maximum", "max", "under", "below"),
    *("less than", "fewer than", "within", "or less", "or fewer"),
)
_AT_LEAST = (
    *(
        "at least",
        "no fewer than",
        "no less than",
        "not less than",
        "more than",
        "over",
        "a minimum of",
        "minimum",
    ),
    "or more",
)
_ABOUT = ("about", "around", "approximately", "roughly", "some")


def _any(phrases: tuple[str, ...] | dict[str, int]) -> str:
    return "|".join(sorted(map(regex.escape, phrases), key=len, reverse=True))


_NUMBER = rf"\d{{1,5}}|{_any(_NUMBERS)}"
_COUNTED = regex.compile(
    rf"(?<!\b(?:the|these|those|this|that|following|first|last|next|both|previous|every|each|per|my)\s)"
    rf"\b(?:(?<before>{_any(_AT_MOST + _AT_LEAST + _ABOUT)}|between)\s+)?(?<low>{_NUMBER})"
    rf"(?:\s*(?:-|–|to|or|and)\s*(?<high>{_NUMBER}))?"
    rf"(?:[ -](?:short|brief|full|long|simple|complete|concise|clear|rhyming))*"
    rf"[ -](?<unit>word|sentence|line|paragraph|character)s?\b(?P<two>\s+or\s+two\b)?"
    rf"(?:\s+(?<after>{_any(_AT_MOST + _AT_LEAST)})\b)?",
    regex.IGNORECASE,
)
_TEXT = (
    r"(?:abstract|answer|article|bio|caption|comment|description|email|essay|explanation|haiku|introduction|letter"
    r"|limerick|limit|maximum|message|minimum|note|paragraph|piece|poem|post|reply|report|response|review|slogan|song"
    r"|speech|story|summary|tale|text|title|total|tweet)"
)
_REQUESTS_BEFORE = regex.compile(
    r"\b(?:in|into|to|as|use|using|write|give|provide|compose|create|make|say|need|want|only|just|exactly|please"
    rf"|(?:answer|reply|respond)(?: \w+)? with|(?:must|should|shall) (?:be|have|contain)|{_TEXT} (?:of|in|with))"
    r"(?: me| us)?(?: an?)?\s+\Z",
    regex.IGNORECASE,
)
_STARTS_CLAUSE = regex.compile(r"(?:\A|[.!?:;,(\n–—-])\s*(?:and\s+)?\Z")
_ENDS_CLAUSE = regex.compile(
    r"\s*(?:[.!;,)\n]|\Z|(?:please|only|each|long|(?:is|are) enough)\b)", regex.IGNORECASE
)
_LONG = regex.compile(r" (?:long|in length)\b", regex.IGNORECASE)
_CONTEXT_CHARS = 40
"""Characters before a number in which a word that requests is searched."""
_FEWEST_CHARACTERS = 50
"""Fewer are the length of a password or a name, or "characters" are those of a story."""
_FEW_WORDS = regex.compile(
    r"\b(?:in|into|to|with|use|using|just|only) (?:just |only )?a (?:few|couple of|handful of) words\b",
    regex.IGNORECASE,
)
_BRIEF = regex.compile(
    r"\b(?:briefly|concisely|succinctly|(?:be|keep (?:it|this|your \w+)|stay) (?:brief|short|concise|succinct)"
    r"|in (?:brief|short)|(?:brief|short|concise|one-line) (?:answer|reply|response|reason|note|explanation))\b",
    regex.IGNORECASE,
)
_WORDS_PER_UNIT = {"sentence": (4, 40), "line": (3, math.inf), "paragraph": (25, 200)}
"""Fewest and most words that count as one unit."""


def adherence(n: float, low: float, high: float) -> float:
    """How well `n` is in the requested interval, from 0 to 1: n / low below it, (high / n)² above it."""
    return (high / n) ** 2 if n > high else min(1.0, n / low)


@dataclass(frozen=True, slots=True)
class LengthRequest:
    """An interval of a unit: [low, high] words, sentences, lines, paragraphs or characters."""

    unit: str
    low: float
    high: float

    def adherence(self, response: str) -> float:
        """From 0 to 1: 1 inside of the interval."""
        return adherence(_count(response, self.unit), self.low, self.high)


def length_requests(instruction: str) -> list[LengthRequest]:
    """The lengths that `instruction` requests."""
    found = [request for match in _COUNTED.finditer(instruction) if (request := _request(match))]
    if found:
        return found
    if _FEW_WORDS.search(instruction):
        return [LengthRequest("word", 2, 12)]
    return [LengthRequest("word", 8, 60)] if _BRIEF.search(instruction) else []


def _request(match: regex.Match[str]) -> LengthRequest | None:
    unit = match["unit"].lower()
    low = _number(match["low"])
    if low == 0 or (unit in ("word", "line", "character") and match["low"].lower() in _VAGUE):
        return None
    if match["low"].lower() == "a" and not _ARTICLE.search(match.string, max(0, match.start() - 10)):
        return None
    high = 2 if match["two"] else _number(match["high"] or match["low"])
    if not _is_meant(match) or (unit == "character" and high < _FEWEST_CHARACTERS):
        return None
    bound = (match["before"] or match["after"] or "").lower()
    is_fine = unit in ("word", "character")
    if bound in _AT_LEAST:
        return LengthRequest(unit, low, math.inf)
    if bound in _AT_MOST:
        return LengthRequest(unit, max(1.0, high / 4) if is_fine else 1, high)
    tolerance = 0.2 if bound in _ABOUT else 0.1 * is_fine
    return LengthRequest(unit, max(1.0, low * (1 - tolerance)), max(low, high) * (1 + tolerance))


def _is_meant(match: regex.Match[str]) -> bool:
    """Whether the words around a number request it: not "two lines of symmetry", nor "between two lines"."""
    if match["before"] or match["after"]:
        return match["before"] is None or match["before"].lower() != "between" or match["high"] is not None
    is_adjective = match[0][-1] not in "sS" and match["low"].lower() not in ("a", "one")  # "a 200-word essay"
    before = match.string[max(0, match.start() - _CONTEXT_CHARS) : match.start()]
    return bool(
        match["two"]
        or is_adjective
        or _REQUESTS_BEFORE.search(before)
        or _LONG.match(match.string, match.end())
        or (_STARTS_CLAUSE.search(before) and _ENDS_CLAUSE.match(match.string, match.end()))
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS[text.lower()]


def _count(response: str, unit: str) -> float:
    """The number of units, or the number that the words would fill if they are too many or too few for it."""
    if unit == "character":
        return len(response)
    n_words = sum(any(map(str.isalnum, word)) for word in response.split())
    if unit == "word":
        return n_words
    if unit == "sentence":
        n_units = len(sentences(response))
    else:
        n_units = _n_parts(response, "\n\n" if unit == "paragraph" and "\n\n" in response else "\n")
    fewest, most = _WORDS_PER_UNIT[unit]
    return min(max(n_units, n_words / most), n_words / fewest)


def _n_parts(text: str, separator: str) -> int:
    return sum(any(map(str.isalnum, part)) for part in text.split(separator))


def requested_length(instruction: str, response: str) -> float | None:
    """Adherence to the requested length, from 0 to 1; None when `instruction` requests none."""
    requests = length_requests(instruction)
    return min((request.adherence(response) for request in requests), default=None)


REQUESTED_LENGTH = Feature(
    name="requested_length",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Requested length",
    description="1 in the length that the prompt requests, min(n / low, 1) below, (high / n)² above",
    log_key="requested_length",
    applies_to="prompt",
    compute=lambda inputs: requested_length(inputs.request, inputs.response),
)
