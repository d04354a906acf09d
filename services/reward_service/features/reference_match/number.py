"""Numbers: with thousands separators, decimal points or commas, fractions, exponents, words, percents and units.

separators   "," before groups of three digits separates thousands, otherwise it is a decimal comma;
             "." is a decimal point, except in several groups of three, and where the reference has a decimal comma
percent      25% equals 0.25, 1/4, and the bare number 25
unit         a number without unit equals one with the reference's unit; units of one quantity are converted
precision    exact; a response with more decimals than a reference that has two or more is rounded to these
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from reward_service.features.reference_match.decision import Mention, Question, are_joined, commits_to
from reward_service.features.reference_match.number_words import SCALES, WORDS, number_of
from reward_service.features.reference_match.plain import plain, unboxed
from reward_service.features.reference_match.units import CURRENCIES, UNITS, Unit, unit_at

_DIGITS, _EXPONENT = 40, 400
"""Longest number and largest power of ten that are read."""
_CONVERTED = Fraction(1, 200)
"""Relative error of a number that was converted to another unit: 343 m/s is about 1,235 km/h."""
_YEARS = range(1000, 2200)

_UNSIGNED = (
    r"(?:\d{1,3}(?:[ ,.'\u00a0\u202f]\d{3})+(?![\d])(?:[.,]\d{1,20})?|\d{1,40}(?:[.,]\d{1,40})?|[.]\d{1,40})"
)
_NUMBER = re.compile(
    rf"(?<![\w.^])(?P<sign>(?<![\w)\]%])[-+±]\s?|\b(?:minus|negative)\s)?(?P<currency>(?:[{CURRENCIES}]|\b(?:USD|EUR|GBP)\s)\s?)?"
    rf"(?P<number>{_UNSIGNED})"
    r"(?:(?:\s?[x×*]\s?10\s?\^\s?\{?|[eE])(?P<exponent>[-+]?\d{1,4})\}?|(?P<mixed>\s\d{1,6}/\d{1,6})|(?P<over>/\d{1,40}))?"
    r"(?![\w^]*\^)"
)
_POWER_OF_TEN = re.compile(r"(?<![\w.^])10\s?\^\s?\{?([-+]?\d{1,3})\}?(?![\w^])")
_SCALE = re.compile(rf"\s({'|'.join(SCALES)})s?\b", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"\D{0,3}\d{1,3}(?:\.\d{3}){0,9},(?:\d{1,2}|\d{4,20})\D{0,20}")
_ABOUT = re.compile(r"(?:about|approximately|approx\.?|roughly|around|ca\.?|exactly|~|≈)\s?", re.IGNORECASE)
_WHEN = re.compile(r"\b(?:year|when)\b", re.IGNORECASE)
_COUNTED = re.compile(r"\bhow many ([a-z]{3,20})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written; its `value` is None if it equals nothing, such as ±5."""

    value: Fraction | None
    decimals: int = 0
    """Digits after the decimal point."""
    unit: Unit | None = None
    """Its unit; a percentage keeps its written value."""
    written: str = ""
    """The denominator as written: 18/24 and 3/4 have one value, but only one of them may be in the prompt."""


def read_number(reference: str, prompt: str) -> Callable[[str], bool] | None:
    """The judge of responses to a reference that is one number, perhaps with a unit or a noun; None otherwise."""
    text = _ABOUT.sub("", plain(unboxed(reference)).strip().rstrip("."))
    comma = _DECIMAL_COMMA.fullmatch(text) is not None
    mentions = find_numbers(text, decimal_comma=comma)
    if len(mentions) != 1:
        return None
    rest = (text[: mentions[0].start] + " " + text[mentions[0].end :]).strip()
    wanted = mentions[0].value
    if (
        wanted.value is None
        or not re.fullmatch(r"(?:[A-Za-z]{1,15}|[=x\s]{0,4})", rest)
        or (rest and mentions[0].start != 0 and "=" not in rest)
    ):
        return None
    is_year = wanted.unit is None and wanted.value in _YEARS and _WHEN.search(prompt) is not None
    is_asked_for = _filter(prompt, wanted, is_year=is_year)

    def find(text: str) -> list[Mention[Number]]:
        mentions = find_numbers(text, decimal_comma=comma)
        asked_for = [is_asked_for(text, mention) for mention in mentions]
        for place in reversed(range(0 if is_year else len(mentions) - 1)):  # a year follows the day of its date
            asked_for[place] |= asked_for[place + 1] and are_joined(text, mentions[place], mentions[place + 1])
        return [mention for mention, kept in zip(mentions, asked_for, strict=True) if kept] or mentions

    given = {(m.value.value, m.value.written) for m in find_numbers(plain(prompt), decimal_comma=comma)}
    question = Question(
        plain(prompt),
        find,
        lambda number: equal(wanted, number),
        lambda number: (number.value, number.written) in given,
    )
    return lambda response: commits_to(question, response)


def equal(wanted: Number, found: Number) -> bool:
    """Whether `found` is the number `wanted`."""
    if wanted.value is None or found.value is None:
        return False
    kinds = {unit.dimension for unit in (wanted.unit, found.unit) if unit}
    if len(kinds) > 1:
        return False
    if kinds == {"percent"} and wanted.unit != found.unit:
        percent, other = (wanted.value, found.value) if wanted.unit else (found.value, wanted.value)
        return other in {percent, percent / 100}
    value = found.value
    if wanted.unit and found.unit and wanted.unit != found.unit:
        scale, size = wanted.unit, found.unit
        value = (value * size.factor + size.offset - scale.offset) / scale.factor
        return abs(value - wanted.value) <= abs(wanted.value) * _CONVERTED
    return value == wanted.value or (wanted.decimals >= 2 and _rounds_to(value, wanted.value, wanted.decimals))


def _rounds_to(value: Fraction, wanted: Fraction, decimals: int) -> bool:
    """Whether a value with more than `decimals` decimals rounds to `wanted`; a less precise one does not."""
    power: int = 10**decimals
    return (value * power).denominator != 1 and abs(value - wanted) * power <= Fraction(1, 2)


def find_numbers(text: str, *, decimal_comma: bool = False) -> list[Mention[Number]]:
    """The numbers in `text`, in order."""
    found = [_power(match) for match in _POWER_OF_TEN.finditer(text)]
    found += [m for match in _NUMBER.finditer(text) if (m := _written(match, text, decimal_comma))]
    found += [m for match in WORDS.finditer(text) if (m := _spelled(match, text))]
    found.sort(key=lambda mention: (mention.start, -mention.end))
    kept: list[Mention[Number]] = []
    for mention in found:
        if not kept or mention.start >= kept[-1].end:
            kept.append(mention)
    return kept


def _power(match: re.Match[str]) -> Mention[Number]:
    exponent = int(match[1])
    value = Fraction(10) ** exponent if abs(exponent) <= _EXPONENT else None
    return Mention(match.start(), match.end(), Number(value))


def _written(match: re.Match[str], text: str, decimal_comma: bool) -> Mention[Number] | None:
    value, decimals = _decimal(match["number"], decimal_comma)
    end = match.end()
    if value is not None:
        value = _with_fraction(value, match)
        if value is None:
            return None
        if scale := _SCALE.match(text, end):
            value, end = value * SCALES[scale[1].lower()], scale.end()
    exponent = int(match["exponent"] or 0)
    if exponent and value is not None:
        value, decimals = (value * Fraction(10) ** exponent, 0) if abs(exponent) <= _EXPONENT else (None, 0)
    unit, end = unit_at(text, end)
    if match["currency"]:
        unit = UNITS[match["currency"].strip()]
    sign = (match["sign"] or "").strip()
    if value is not None and sign in {"-", "minus", "negative"}:
        value = -value
    return Mention(match.start(), end, Number(None if sign == "±" else value, decimals, unit, match["over"] or ""))


def _with_fraction(value: Fraction, match: re.Match[str]) -> Fraction | None:
    """`value` plus the fraction of a mixed number, or over a denominator; None for a denominator of 0."""
    top, _, bottom = (match["mixed"] or match["over"] or "").strip().rpartition("/")
    if not bottom:
        return value
    if not int(bottom):
        return None
    return value + Fraction(int(top), int(bottom)) if top else value / int(bottom)


def _decimal(digits: str, decimal_comma: bool) -> tuple[Fraction | None, int]:
    """The value of digits with separators, and its number of decimals."""
    digits = re.sub(r"['\s]", "", digits)
    if decimal_comma:
        grouped = "," in digits or re.fullmatch(r"\d{1,3}(?:\.\d{3})+", digits)
        digits = digits.replace(".", "").replace(",", ".") if grouped else digits
    elif re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?", digits):
        digits = digits.replace(",", "")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "").replace(",", ".")
    else:
        digits = digits.replace(",", ".")
    whole, _, decimals = digits.partition(".")
    if len(whole) + len(decimals) > _DIGITS or "." in decimals:
        return None, 0
    return Fraction(int(whole + decimals or "0"), 10 ** len(decimals)), len(decimals)


def _spelled(match: re.Match[str], text: str) -> Mention[Number] | None:
    words = match[0].lower()
    if words == "one" and not _counts_one(text, match):
        return None
    value = number_of(words)
    unit, end = unit_at(text, match.end())
    return Mention(match.start(), end, Number(value, 0, unit)) if value is not None else None


def _counts_one(text: str, match: re.Match[str]) -> bool:
    """Whether "one" is a number here, not a pronoun."""
    after = text[match.end() :].strip(" .!\"')*")
    before = text[: match.start()].rstrip(" :\"'(*").lower()
    return not after and (not before or before.endswith((" is", "answer", "are", "=", "equals", "only")))


def _filter(prompt: str, wanted: Number, *, is_year: bool) -> Callable[[str, Mention[Number]], bool]:
    """Which numbers can be an answer: those of the same quantity, years for a year, counts of what is counted."""
    counted = _COUNTED.search(prompt)
    if wanted.unit:
        dimension = wanted.unit.dimension
        return lambda _text, m: m.value.unit is not None and m.value.unit.dimension == dimension
    if is_year:
        return lambda _text, m: m.value.value in _YEARS
    if counted:
        noun = re.compile(rf"\s(?:\w{{1,20}}\s)?{re.escape(counted[1])}\b", re.IGNORECASE)
        unit = counted[1].lower()
        return lambda text, m: (
            noun.match(text, m.end) is not None or (bool(m.value.unit) and text[: m.end].lower().endswith(unit))
        )
    return lambda _text, _m: True
