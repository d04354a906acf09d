"""Verbs and particles of other languages, written in English, so that one set of rules reads all of them.

"Die Hauptstadt ist nicht Ottawa" becomes "Die Hauptstadt is not Ottawa".
"""

from __future__ import annotations

import re
from collections.abc import Collection

from reward_service.features.languages import language_of

_ENGLISH = {
    "any": {"or": "oder ou"},
    "german": {
        "is": "ist sind war waren lautet heißt heisst",
        "not": "nicht kein keine nie niemals",
        "or": "oder",
    },
    "french": {"is": "est sont était étaient", "not": "pas jamais", "or": "ou"},
    "spanish": {"is": "es son era fue", "not": "no nunca", "or": "o u"},
    "italian": {"is": "è sono era fu", "not": "non mai", "or": "o"},
    "portuguese": {"is": "é são era foi", "not": "não nunca", "or": "ou"},
    "dutch": {"is": "zijn heet waren", "not": "niet geen nooit", "or": "of"},
}
_UNSPACED = {
    **dict.fromkeys(("不是", "并非", "並非", "ไม่ใช่", "ではな", "ではありませ", "じゃな", "でない"), " is not "),
    **dict.fromkeys(("或", "还是", "還是", "หรือ", "または", "もしくは"), " or "),
    **dict.fromkeys(("是", "คือ"), " is "),
    "但是": "但是",
}
"""In Chinese, Japanese and Thai, wherever they are."""

_BY_WORD = {
    language: {word: english for english, words in table.items() for word in words.split()}
    for language, table in _ENGLISH.items()
}
_WORD = re.compile(r"[^\W\d_]+")
_UNSPACED_WORD = re.compile("|".join(sorted(_UNSPACED, key=len, reverse=True)))


def with_english_verbs(text: str, prompt: str, keep: Collection[str]) -> str:
    """`text` with English verbs and particles in place of those of its language, but for the words in `keep`."""
    if not text.isascii():
        kept = "".join(keep)
        text = _UNSPACED_WORD.sub(lambda found: found[0] if found[0] in kept else _UNSPACED[found[0]], text)
    languages = [language_of(_WORD.findall(part.lower())) or "any" for part in (text, prompt)]
    for language in dict.fromkeys(("any", *languages)):
        by_word = _BY_WORD.get(language, {})
        table = {word: english for word, english in by_word.items() if word not in keep}
        text = _WORD.sub(lambda found, table=table: table.get(found[0].lower(), found[0]), text)  # type: ignore[misc]
    return text
