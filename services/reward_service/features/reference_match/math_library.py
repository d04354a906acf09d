"""Equality of LaTeX expressions by math-verify (the extra `math`), bounded in size and in time.

math-verify's own time limit uses a signal, which fails outside of the main thread, so it is turned off as
documented, and reading and comparing are limited in CPU time. Single operations are bounded by
`is_bounded`: short expressions, small numbers, small exponents, no towers, factorials, sums, products, integrals.
Only math-verify's LaTeX grammar is used: its reader of plain expressions evaluates Python.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

from reward_service.cpu_limit import LimitedCaller

INSTALLED = find_spec("math_verify") is not None

TIME_LIMIT_S = 0.5
"""CPU time that reading or comparing one expression may take."""
_LOADING_LIMIT_S = 30.0

_MAX_CHARACTERS, _MAX_EXPONENT, _MAX_DEPTH, _MAX_BARS = 200, 10_000, 8, 4
_REFUSED = re.compile(
    r"\d{13}|!|\\(?:sum|prod|i{0,3}nt|oint|lim|d?binom|choose|bigcup|bigcap|newcommand|def|uparrow|p?mod|bmod|gcd|lcm)(?![a-z])"
)
_run = LimitedCaller()
"""One call at a time: the parser's tables are shared and not made for threads."""


def is_bounded(latex: str) -> bool:
    """Whether `latex` is small enough that no single step of reading or comparing it can take long."""
    if (
        len(latex) > _MAX_CHARACTERS
        or _REFUSED.search(latex)
        or latex.count("|") > _MAX_BARS
        or _depth(latex) > _MAX_DEPTH
    ):
        return False
    simple, of_groups = 1, 1
    for place in (place for place, character in enumerate(latex) if character == "^"):
        exponent = _group(latex[place + 1 :].lstrip())
        if "^" in exponent or latex[place + 1 :].lstrip()[len(exponent) :].lstrip().startswith("^"):
            return False  # a tower of powers
        size = max((int(digits) for digits in re.findall(r"\d+", exponent)), default=1)
        if latex[:place].rstrip().endswith((")", "}", "]")):
            of_groups *= max(size, 1)
        else:
            simple = max(simple, size)
    return simple * of_groups <= _MAX_EXPONENT


def _depth(latex: str) -> int:
    """How deep braces and brackets are nested."""
    return max(accumulate((c in "{([") - (c in "})]") for c in latex), default=0)


def _group(latex: str) -> str:
    """The exponent that `latex` starts with: all in its braces, or one number, command or letter."""
    if latex[:1] not in {"{", "("}:
        found = re.match(r"[-+]?\s?(?:\d+|\\[A-Za-z]+|.)", latex)
        return found[0] if found else ""
    depth = 0
    for place, character in enumerate(latex):
        depth += (character in "{(") - (character in "})")
        if depth == 0:
            return latex[: place + 1]
    return latex


def parse(latex: str) -> Any | None:
    """What math-verify reads in `latex`; None if it reads nothing in time, or `latex` is not bounded."""
    return _parsed(latex.strip()) if is_bounded(latex) and latex.strip() else None


def equal(reference: Any, latex: str) -> bool:
    """Whether `latex` is the expression `reference`, a result of `parse`; False if time runs out."""
    from math_verify import verify

    found = parse(latex)
    return found is not None and bool(
        _run(lambda: verify(reference, found, float_rounding=6, timeout_seconds=None), TIME_LIMIT_S)
    )


@lru_cache(maxsize=2048)
def _parsed(latex: str) -> Any | None:
    read = _parser()
    return _run(lambda: read(latex), TIME_LIMIT_S) or None


@cache
def _parser() -> Callable[[str], Any]:
    """math-verify's reader of LaTeX, after it has built its tables, which takes longer than the time limit."""
    from math_verify import LatexExtractionConfig, parse

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they warn that their time limit is off
    config = [LatexExtractionConfig()]

    def read(latex: str) -> Any:
        return parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)

    examples = (r"(x-1)(x+1)", "3x^2+2x-1", r"x^{\frac12}", r"\frac{\sqrt{8}}{2}")
    _run(lambda: [read(latex) for latex in examples], _LOADING_LIMIT_S)
    return read
