r"""Mathematical expressions in LaTeX or plain notation: boxed, announced, or the last one."""

from __future__ import annotations

import re
from collections.abc import Callable

from reward_service.features.reference_match import math_library
from reward_service.features.reference_match.plain import boxed, window
from reward_service.features.reference_match.statements import announced, asserted, last_correction

_IS_MATH = re.compile(
    r"\\[A-Za-z]{2,}|\$[^$]+\$|\^|[√π∞]|(?<![A-Za-z])\d*[a-z]\s?[-+*/=]\s?\d|\d\s?[-+*/]\s?\d*[a-z](?![A-Za-z])"
)
_EQUATIONS = re.compile(r"=[^=]*(?:\b(?:and|or)\b|[,;])[^=]*=", re.IGNORECASE)
"""Several solutions, which are a list."""
_SPAN = re.compile(r"\$\$?([^$\n]{1,300})\$\$?|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]", re.DOTALL)
_MAX_CANDIDATES = 5
_OR = re.compile(r"\bor\b", re.IGNORECASE)
_NOT = re.compile(r"\bnot\b|n't\b", re.IGNORECASE)
_PLAIN = re.compile(r"[\s\d.,A-Za-z()\[\]{}^_+*/=<>\\|!√π∞×·÷²³⁴−-]{1,200}")
_WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:sqrt|sin|cos|tan|log|ln|exp|pi)\b)[A-Za-z]{4,}")
_LINK = re.compile(r"\b(?:is|are|be|gives|equals|get|becomes)\b:?|:\s", re.IGNORECASE)
_NOTATION = [
    (re.compile(r"(?<!\\)\bsqrt\s?\(([^()]{1,60})\)|√\(([^()]{1,60})\)"), lambda m: rf"\sqrt{{{m[1] or m[2]}}}"),
    (re.compile(r"√(\w{1,20})"), lambda m: rf"\sqrt{{{m[1]}}}"),
    (re.compile(r"(?<!\\)\b(pi|sin|cos|tan|ln|log|exp)\b"), lambda m: rf"\{m[1]} "),
    (re.compile(r"\\[dt]frac"), lambda _m: r"\frac"),
]
_CHARACTERS = str.maketrans({
    "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "*": r"\cdot ", "÷": "/", "−": "-",
    "²": "^2", "³": "^3", "⁴": "^4",
})  # fmt: skip


def is_math(reference: str) -> bool:
    """Whether `reference` is an expression in LaTeX or in plain notation, not words with a formula in them."""
    text = " ".join(boxed(reference)) or reference
    words = _WORD.findall(_SPAN.sub(" ", re.sub(r"\\[A-Za-z]+", " ", text)))
    return (
        len(text) <= 300 and len(words) <= 1 and bool(_IS_MATH.search(reference)) and not _EQUATIONS.search(text)
    )


def read_math(reference: str, _prompt: str) -> Callable[[str], bool] | None:
    """The judge of responses to an expression; None if the library cannot read `reference` as one."""
    if not is_math(reference) or not math_library.INSTALLED:
        return None
    wanted = [math_library.parse(expression(text)) for text in (boxed(reference) or [reference])[-1:]]
    if not wanted or wanted[0] is None:
        return None
    return lambda response: _answers(window(response), wanted[0], expression(reference), _prompt)


def expression(text: str) -> str:
    """The LaTeX of a candidate: the last span in it, without delimiters, after its last equals sign."""
    spans = [next(filter(None, match.groups())) for match in _SPAN.finditer(text)]
    latex = (boxed(text) or spans or [text])[-1].strip().strip(".,;:!").strip()
    for pattern, replacement in _NOTATION:
        latex = pattern.sub(replacement, latex)
    return latex.translate(_CHARACTERS).rsplit("=", 1)[-1].strip()


def _answers(response: str, wanted: object, reference: str, prompt: str) -> bool:
    candidates = _candidates(response, prompt)
    return 0 < len(candidates) <= _MAX_CANDIDATES and all(
        "".join(found.split()) == "".join(reference.split()) or math_library.equal(wanted, found)
        for found in candidates
    )


def _candidates(response: str, prompt: str) -> list[str]:
    """The expressions that `response` presents as its answer; none if it rejects them."""
    in_boxes = boxed(response)
    if in_boxes:
        return [expression(content) for content in in_boxes]
    text = last_correction(re.sub(r"\*\*|`", "", response), lambda part: bool(_SPAN.search(part) or "=" in part))
    said = asserted(text, prompt)
    tails = [tail for sentence in said for tail in announced(sentence) if tail.strip()]
    if not tails:
        tails = next(([found] for sentence in reversed(said) if (found := _formula(sentence))), [])
    return [found for tail in tails for found in _alternatives(tail)]


def _formula(sentence: str) -> str | None:
    """The part of `sentence` that is a formula: with delimiters, after "is", or all of it."""
    if _SPAN.search(sentence):
        return sentence
    links = list(_LINK.finditer(sentence))
    tail = sentence[links[-1].end() :] if links else sentence
    return tail if _PLAIN.fullmatch(tail.strip().rstrip(".")) and not _WORD.search(tail) else None


def _alternatives(text: str) -> list[str]:
    """The formulas that `text` joins by "or"; a negated one counts as the empty formula."""
    parts = _OR.split(text)
    return ["" if _NOT.search(part) else expression(part) for part in parts if part.strip()]
