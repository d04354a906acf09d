"""Plain text of an answer: without Markdown, LaTeX delimiters and typographic variants of the same character.

Every pattern here is linear in the text: none has nested or adjacent unbounded repeats.
"""

from __future__ import annotations

import re
import unicodedata

_HEAD, _TAIL = 1_000, 4_000
"""Characters read at the start and the end of a long response."""

_SUPERSCRIPTS = {ord(c): f"^{d}" for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)}
_FRACTIONS = {ord(c): f" {unicodedata.normalize('NFKC', c).replace('⁄', '/')}" for c in "¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
_CHARACTERS = {
    **_SUPERSCRIPTS,
    **_FRACTIONS,
    **str.maketrans({"−": "-", "‐": "-", "‑": "-", "⁄": "/", "∕": "/", "’": "'", "‘": "'", "“": '"', "”": '"'}),
    **str.maketrans({"«": '"', "»": '"', "„": '"', "µ": "u", "μ": "u", "…": ". ", "。": ". ", "，": ", "}),
    **str.maketrans({"ı": "i", "İ": "I"}),  # patterns without regard to case find them for "i", `lower` keeps them
}

_LATEX: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\[dt]?frac\s?\{([^{}]{1,40})\}\s?\{([^{}]{1,40})\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac(\d)(\d)"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s?\{([^{}]{0,200})\}"), r"\1"),
    (re.compile(r"\\(?:times|cdot)\b"), "×"),
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad)\b|\\[,;:! ]"), " "),
    (re.compile(r"\^\{?\\circ\}?|\\degree\b"), "°"),
    (re.compile(r"\^\{(-?\d{1,4})\}"), r"^\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(r"\\[()\[\]]|\$\$"), " "),
    (re.compile(r"\$(?=\S)([^$\n]{1,300})(?<=\S)\$(?!\d)"), r" \1 "),
)

_MARKDOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^[ \t]{0,8}####[ \t]", re.MULTILINE), "Answer: "),  # the last line of GSM8K solutions
    (re.compile(r"^[ \t]{0,8}#{1,6}[ \t]|^[ \t]{0,8}>[ \t]", re.MULTILINE), ""),
    (re.compile(r"(?<=\d)\*\*(?=\d)"), "^"),
    (re.compile(r"\*\*|__|~~|`"), ""),
    (re.compile(r"(?<!\S)[*_](?=\w)|(?<=[\w.])[*_](?![\w*_])"), ""),
)

_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Thai, Lao, Japanese and Chinese have no spaces between words: each character counts as a word."""

_MAX_BOXES, _MAX_BOX = 20, 500
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?\{")


def words_of(text: str) -> list[str]:
    """The words of a table that is written as text."""
    return text.split()


def window(text: str) -> str:
    """`text`, or the start and the end of a text longer than 5,000 characters."""
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def plain(text: str) -> str:
    """`text` with one spelling for each character, without Markdown and LaTeX commands for layout."""
    text = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).replace("⁄", "/")
    for pattern, replacement in _LATEX + _MARKDOWN:
        text = pattern.sub(replacement, text)
    return text


def boxed(text: str) -> list[str]:
    r"""The contents of the last `\boxed{…}` of `text`, up to 20; one without its closing brace is ignored."""
    return [text[start:end] for _, start, end in _boxes(text)]


def unboxed(text: str) -> str:
    r"""`text` with the contents of each `\boxed{…}` in its place."""
    parts, last = [], 0
    for opening, start, end in _boxes(text):
        if opening >= last:
            parts += [text[last:opening], " ", text[start:end], " "]
            last = end + 1
    return "".join([*parts, text[last:]])


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """Where each box opens, and where its contents start and end."""
    found = []
    for opening in list(_BOXED.finditer(text))[-_MAX_BOXES:]:
        depth = 1
        for place in range(opening.end(), min(len(text), opening.end() + _MAX_BOX)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                found.append((opening.start(), opening.end(), place))
                break
    return found


def key(text: str) -> str:
    """`text` for comparison: lower case, no accents, no articles, no punctuation, single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    words = re.findall(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+", bare)
    return " ".join(word for word in words if word not in {"a", "an", "the"}) or " ".join(words)
