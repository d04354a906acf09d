"""Scripts other than Latin: whether a response is written in that of its prompt."""

from __future__ import annotations

import regex

_SCRIPTS = tuple(
    regex.compile(rf"[{script}]")
    for script in (
        *(
            r"\p{Han}\p{Hiragana}\p{Katakana}",
            r"\p{Hangul}",
            r"\p{Thai}",
            r"\p{Lao}",
            r"\p{Khmer}",
            r"\p{Myanmar}",
        ),
        *(r"\p{Cyrillic}", r"\p{Greek}", r"\p{Arabic}", r"\p{Hebrew}", r"\p{Devanagari}", r"\p{Bengali}"),
    )
)
_LETTER = regex.compile(r"[\p{L}\p{M}]")
_TRANSLATION = regex.compile(
    "译|譯|訳|英|แปล|อังกฤษ|번역|영어|перев|англий|ترجم|إنجليزي|תרגם|אנגלית|अनुवाद|अंग्रेज|μετάφρα|αγγλικ"
)
"""Words for "translate" and "English"."""
_ENOUGH = 0.3
"""Share of letters: names, units and quoted code are written in Latin letters."""


def share_in_script(request: str, response: str) -> float:
    """The share of the letters of `response` in the script of `request`, divided by 0.3, at most 1.

    1 for a request mainly in Latin letters, or for a translation, and for a response without letters.
    """
    script = None if request.isascii() or _TRANSLATION.search(request) else _script(request)
    n_letters = len(_LETTER.findall(response)) if script else 0
    if script is None or not n_letters:
        return 1.0
    return min(1.0, len(script.findall(response)) / n_letters / _ENOUGH)


def _script(text: str) -> regex.Pattern[str] | None:
    n_letters = len(_LETTER.findall(text))
    return next((script for script in _SCRIPTS if 2 * len(script.findall(text)) > n_letters), None)
