"""`finished`: 1 if the response ends like a finished text, else 0.

A response was cut, for instance by the policy's limit on new tokens, if it ends with a letter, a digit, a comma
or an opening mark, or in an open code fence. Exceptions: it has no more than 10 words, or its last line is an
item of a list or one of several lines of no more than 10 words (a poem), or in a script without full stops (Thai,
Lao, Khmer, Burmese). In Chinese and Japanese 20 characters count as 10 words. Cost: linear, because code fences
are counted.
"""

from __future__ import annotations

import regex

from reward_service.features.feature import Feature, ResponseText

_FEW_WORDS = 10
"""Words up to which an answer, an item or a line of a poem may be a phrase without a full stop."""
_OPEN_END = regex.compile(r"[\w,;:(\[\-–—/&+=]\Z")
_NO_FULL_STOP = regex.compile(r"\p{LB=SA}\Z")
_HAN_KANA = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー]\Z")
_CHARACTERS_PER_WORD = 2
_LIST_ITEM = regex.compile(r"\s*(?:[-*•–+]|\d{1,3}[.)]|[A-Za-z][.)])\s")


def finished(text: str) -> float:
    """1.0 if `text` ends like a finished text, else 0.0."""
    text = text.rstrip()
    if text.count("```") % 2:
        return 0.0
    if not _OPEN_END.search(text[-1:]) or _is_short(text) or _NO_FULL_STOP.search(text[-1:]):
        return 1.0
    before, _, last = text.rpartition("\n")
    return float(bool(before) and text[-1].isalnum() and (bool(_LIST_ITEM.match(last)) or _is_short(last)))


def _is_short(text: str) -> bool:
    if _HAN_KANA.search(text[-1:]):
        return len(text) <= _CHARACTERS_PER_WORD * _FEW_WORDS
    return len(text.split(None, _FEW_WORDS)) <= _FEW_WORDS


FINISHED = Feature(
    name="finished",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Finished",
    description="1 if the response ends like a finished text, 0 if it was cut",
    log_key="finished",
    compute=lambda inputs: finished(inputs.response),
    reads_prompt=False,
)
