"""Dates: ISO, month names in English with or without year, and numbers in either order of day and month.

A response with more precision than the reference is right; one with less is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reward_service.features.reference_match.decision import Mention, Question, commits_to
from reward_service.features.reference_match.plain import plain, unboxed, words_of

Date = tuple[int | None, int | None, int | None]
"""Year, month, day; None if missing."""

_MONTHS = {
    name: number
    for number, names in enumerate(
        words_of(
            "january,jan february,feb march,mar april,apr may june,jun july,jul august,aug september,sep,sept "
            "october,oct november,nov december,dec"
        ),
        start=1,
    )
    for name in names.split(",")
}
_MONTH = rf"(?:{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b\.?"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?"
_YEAR = r"\d{4}"
_DATE = re.compile(
    rf"(?<![\w/.-])(?:(?P<iso>{_YEAR}[-/.]\d{{1,2}}[-/.]\d{{1,2}})(?!\w)|(?P<numeric>\d{{1,2}}[-/.]\d{{1,2}}[-/.]{_YEAR})(?!\w)|"
    rf"(?:the\s)?(?P<day>{_DAY})\s(?:of\s)?(?P<month>{_MONTH})(?:,?\s(?:of\s)?(?P<year>{_YEAR})\b)?|"
    rf"(?P<month2>{_MONTH})\s(?:the\s)?(?P<day2>{_DAY})\b(?:,?\s(?P<year2>{_YEAR})\b)?|"
    rf"(?P<month3>{_MONTH}),?\s(?:of\s)?(?P<year3>{_YEAR})\b)",
    re.IGNORECASE,
)


def read_date(reference: str, prompt: str) -> Callable[[str], bool] | None:
    """The judge of responses to a reference that is one date; None otherwise."""
    text = plain(unboxed(reference)).strip().rstrip(".")
    match = _DATE.fullmatch(re.sub(r"^(?:on|in)\s", "", text, flags=re.IGNORECASE))
    wanted = _readings(match) if match else ()
    if not wanted:
        return None
    given = {mention.value for mention in find_dates(plain(prompt))}
    question = Question(
        plain(prompt), find_dates, lambda value: _agree(wanted, value), lambda value: value in given
    )
    return lambda response: commits_to(question, response)


def find_dates(text: str) -> list[Mention[tuple[Date, ...]]]:
    """The dates in `text`, each with all its readings: 3/5/1990 has two."""
    found = ((match, _readings(match)) for match in _DATE.finditer(text))
    return [Mention(match.start(), match.end(), readings) for match, readings in found if readings]


def _readings(match: re.Match[str]) -> tuple[Date, ...]:
    if match["iso"]:
        year, month, day = map(int, re.split(r"[-/.]", match["iso"]))
        return _valid((year, month, day))
    if match["numeric"]:
        first, second, year = map(int, re.split(r"[-/.]", match["numeric"]))
        return _valid((year, second, first), *(() if "." in match["numeric"] else ((year, first, second),)))
    name = match["month"] or match["month2"] or match["month3"]
    year_, day_ = match["year"] or match["year2"] or match["year3"], match["day"] or match["day2"]
    date: Date = (
        int(year_) if year_ else None,
        _MONTHS[name.lower().rstrip(".")],
        int(re.sub(r"\D", "", day_)) if day_ else None,
    )
    return _valid(date)


def _valid(*dates: Date) -> tuple[Date, ...]:
    return tuple(d for d in dict.fromkeys(dates) if 1 <= (d[1] or 1) <= 12 and 1 <= (d[2] or 1) <= 31)


def _agree(wanted: tuple[Date, ...], found: tuple[Date, ...]) -> bool:
    """Whether some reading of both is the same day, in all fields of the reference."""
    return any(all(w is None or w == f for w, f in zip(a, b, strict=True)) for a in wanted for b in found)
