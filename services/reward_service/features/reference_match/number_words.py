"""English number words: "three hundred and ninety-one", "half a million", "two thirds", "zero point three"."""

from __future__ import annotations

import re
from fractions import Fraction

from reward_service.features.reference_match.plain import words_of

_FROM_ZERO = words_of(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_FROM_TWENTY = words_of("twenty thirty forty fifty sixty seventy eighty ninety")
_FROM_HALF = words_of("half third quarter fifth sixth seventh eighth ninth tenth")
_SMALL = {word: number for number, word in enumerate(_FROM_ZERO)}
_TENS = {word: 10 * number for number, word in enumerate(_FROM_TWENTY, start=2)}
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_PARTS = {word: size for size, word in enumerate(_FROM_HALF, start=2)} | {"fourth": 4, "hundredth": 100}
_PARTS |= {f"{part}s": size for part, size in _PARTS.items()} | {"halves": 2}

_NUMERAL = "|".join([*_SMALL, *_TENS])
_SCALE = "|".join(SCALES)
_PART = "|".join(sorted(_PARTS, key=len, reverse=True))

WORDS = re.compile(
    rf"\b(?:(?:minus|negative)\s)?(?:(?:half\s)?an?\s(?:{_SCALE}|{_PART})|half|(?:{_NUMERAL}))"
    rf"(?:(?:\s|-|\sand\s|\sand\sa\s)(?:{_NUMERAL}|{_SCALE}|point|{_PART}))*\b",
    re.IGNORECASE,
)


def number_of(words: str) -> Fraction | None:
    """The number that `words` spell; None when they spell none, such as "two three"."""
    tokens = [token for token in re.split(r"[\s-]+", words.lower()) if token not in {"and", "a", "an"}]
    negative = bool(tokens) and tokens[0] in {"minus", "negative"}
    value = _unsigned(tokens[negative:])
    return -value if value is not None and negative else value


def _unsigned(tokens: list[str]) -> Fraction | None:
    if "point" in tokens:
        place = tokens.index("point")
        digits = [_SMALL.get(token, 10) for token in tokens[place + 1 :]]
        whole = _whole(tokens[:place])
        if whole is None or not digits or max(digits) > 9 or len(digits) > 20:
            return None
        return whole + Fraction(int("".join(map(str, digits))), 10 ** len(digits))
    if len(tokens) > 1 and tokens[0] == "half" and tokens[1] in SCALES:
        return Fraction(SCALES[tokens[1]], 2) if len(tokens) == 2 else None
    if tokens and tokens[-1] in _PARTS:
        count = _whole(tokens[:-1]) if tokens[:-1] else Fraction(1)
        return None if count is None else count / _PARTS[tokens[-1]]
    return _whole(tokens)


def _whole(tokens: list[str]) -> Fraction | None:
    """Groups such as "three hundred ninety-one thousand", from the highest scale to the lowest."""
    if not tokens:
        return None
    total, group, last = 0, 0, 0
    for place, token in enumerate(tokens):
        size = SCALES.get(token)
        if size is None:
            number = _SMALL.get(token, _TENS.get(token))
            if number is None or (last and not last > number) or (last in range(1, 20)):
                return None
            group, last = group + number, number or 1
        elif token in {"hundred", "dozen"}:
            group, last = (group or 1) * size, 100
        else:
            total, group, last = total + (group or int(place == 0)) * size, 0, 0
    return Fraction(total + group)
