"""The visible part of a text: what is left without the characters that show nothing.

Invisible are control characters other than white space, Unicode's default ignorable code points (zero-width
spaces, soft hyphen, word joiner, Hangul fillers, tags, …) and format characters, lone surrogates, and three more:
blank Braille, the null notehead and the Khitan filler. Four kinds belong to what they follow, and stay there:

    joiners              after a letter of a script that writes with them (Persian, Hindi, Sinhala, …)
    zero-width joiner    between two emoji, which it makes one
    variation selector   one, after a character that has variants (emoji, digits, symbols, Han, Mongolian, Myanmar)
    tags                 at most seven, after the black flag: flags of regions

The table is written out, because Python's and other libraries' tables change with their versions.
"""

from __future__ import annotations

import re

import regex

_CONTROLS = "\\0-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f"
"""Without tab, line feed, vertical tab, form feed, carriage return and next line, which are white space."""
_OTHERS = (
    "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u2800\\u3164\\ud800-\\udfff\\ufeff\\uffa0\\ufff0-\\ufffb\\U00013430-\\U0001343f\\U00016fe4"
    "\\U0001bca0-\\U0001bca3\\U0001d159\\U0001d173-\\U0001d17a\\U000e0000-\\U000e001f\\U000e0080-\\U000e00ff"
    "\\U000e01f0-\\U000e0fff"
)
_JOINERS = "\\u200c\\u200d"
_SELECTORS = "\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\\U000e0100-\\U000e01ef"
_TAGS = "\\U000e0020-\\U000e007f"

_ALL = _CONTROLS + _OTHERS + _JOINERS + _SELECTORS + _TAGS
_ANY = re.compile(f"[{_ALL}]")
_SHOWN = re.compile(f"[^\\s{_ALL}]")

_SCRIPTS = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Arabic", "Syriac", "Mandaic", "Nko", "Mongolian", "Devanagari", "Bengali", "Gurmukhi", "Gujarati"),
        *("Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Khmer", "Myanmar", "Tibetan"),
        *("Balinese", "Javanese"),
    )
)
_JOINED = rf"[[{_SCRIPTS}]&&[\p{{L}}\p{{M}}]]"
_EMOJI = r"\p{Extended_Pictographic}"
_BEFORE_ZWJ = rf"(?<![{_EMOJI}\p{{EMod}}]\u200d)(?<![{_EMOJI}\p{{EMod}}]\ufe0f\u200d)"
_VARIED = r"[\p{Emoji}\p{S}\p{Han}\p{Mongolian}\p{Myanmar}\p{Phags_Pa}--\p{Variation_Selector}]"

_INVISIBLE = regex.compile(
    rf"[{_CONTROLS}{_OTHERS}]+"
    rf"|\u200c(?<!{_JOINED}\u200c)"
    rf"|\u200d(?<!{_JOINED}\u200d)(?:{_BEFORE_ZWJ}|(?!{_EMOJI}))"
    rf"|[{_SELECTORS}](?<!{_VARIED}.)"
    rf"|[{_TAGS}](?<!\U0001f3f4[{_TAGS}]{{1,7}})",
    regex.V1 | regex.DOTALL,
)


def visible(text: str) -> str:
    """`text` without the characters that show nothing; `text` itself if it has none."""
    if text.isascii() and text.replace("\n", " ").isprintable():  # most texts, a tenth of the search's time
        return text
    return text if _ANY.search(text) is None else _INVISIBLE.sub("", text)


def is_blank(text: str) -> bool:
    """Whether `text` shows nothing."""
    return _SHOWN.search(text) is None
