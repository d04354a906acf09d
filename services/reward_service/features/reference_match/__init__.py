"""Verification of closed-ended answers: whether the answer that a response commits to is the reference.

    reference                                flag                   value
    a letter or text of the prompt's options reference_option       0 or 1
    yes, no, true, false                     reference_yes_no       0 or 1
    a date                                   reference_date         0 or 1
    a number, with unit, percent, currency   reference_number       0 or 1
    an expression                            reference_math         0 or 1; math-verify compares (extra `math`)
    several short items                      reference_list         items in both / items in either
    up to five words                         reference_exact        0 or 1
    anything else                            none                   0 if the response denies the reference,
                                                                    else None: the recipe's `otherwise`

The rules and their limits: docs/reference/reference-match.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.reference_match import math_library
from reward_service.features.reference_match.date import read_date
from reward_service.features.reference_match.listing import read_list
from reward_service.features.reference_match.math import is_math, read_math
from reward_service.features.reference_match.number import read_number
from reward_service.features.reference_match.option import read_option
from reward_service.features.reference_match.phrase import read_phrase
from reward_service.features.reference_match.plain import window
from reward_service.features.reference_match.statements import denies
from reward_service.features.reference_match.yes_no import read_yes_no

Judge = Callable[[str], float]
"""The value of a response."""

MATH_NOT_INSTALLED = "reference_math_not_installed"
"""Flag of a reference that needs the extra `math`, which is not installed."""

_KINDS: tuple[tuple[str, Callable[[str, str], Judge | None]], ...] = (
    ("reference_option", read_option),
    ("reference_yes_no", read_yes_no),
    ("reference_date", read_date),
    ("reference_number", read_number),
    ("reference_math", read_math),
    ("reference_list", read_list),
    ("reference_exact", read_phrase),
)
"""Flag and reader of each kind; the first whose reader takes the reference decides."""

_NUMBERS = re.compile(r"(?<![\d.,])(?:\d{1,12}(?:[.,]\d{1,12}){0,4}[,;]?\s{1,4}){20}")
"""Twenty numbers in a row: padding, or a list of guesses."""

_MAX_REFERENCE, _MAX_PROMPT = 2_000, 8_000
"""Characters: a longer reference is free text; only the end of a longer prompt is read."""


def reference_match(prompt: str, response: str, reference: str) -> float | None:
    """In [0, 1], whether `response` answers with `reference`; None for one that cannot be verified."""
    flag, judge = _read(reference, prompt)
    if judge is None:
        return 0.0 if denies(window(response), reference) else None
    is_padded = flag != "reference_list" and _NUMBERS.search(window(response))
    return 0.0 if is_padded else float(judge(response))


def reference_flags(prompt: str, reference: str) -> Sequence[str]:
    """The kind that `reference` is taken for, or that it needs the extra `math`; empty for free text."""
    flag, _ = _read(reference, prompt)
    return [flag] if flag else []


def _read(reference: str, prompt: str) -> tuple[str | None, Judge | None]:
    return _judge(reference, prompt[-_MAX_PROMPT:]) if len(reference) <= _MAX_REFERENCE else (None, None)


@lru_cache(maxsize=512)
def _judge(reference: str, prompt: str) -> tuple[str | None, Judge | None]:
    """The flag and the judge of a reference; cached, because all responses to a prompt share them."""
    for flag, read in _KINDS:
        judge = read(reference, prompt)
        if judge is not None:
            return flag, judge
        if read is read_math and is_math(reference) and not math_library.INSTALLED:
            return MATH_NOT_INSTALLED, None
    return None, None


def _prompt(inputs: ResponseText) -> str:
    """The user's messages; their line breaks separate options."""
    return "\n".join(message.content for message in inputs.messages if message.role == "user")


def _value(inputs: ResponseText) -> float | None:
    reference = inputs.reference
    return None if reference is None else reference_match(_prompt(inputs), inputs.response, reference)


def _flags(inputs: ResponseText) -> Sequence[str]:
    return [] if inputs.reference is None else reference_flags(_prompt(inputs), inputs.reference)


REFERENCE_MATCH = Feature(
    name="reference_match",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Reference match",
    description="whether the final answer is the reference; null for free text",
    log_key="reference_match",
    compute=_value,
    flags=_flags,
    applies_to="reference",
)
