"""Ends of long texts, so that tokens which no model reads are not computed.

A tokenizer of the BERT family divides a text at white space, at punctuation and around Chinese characters, and
tokenizes each word alone. So the tokens of an end that begins at such a place are the last ones of the whole text.
"""

from __future__ import annotations

import re
import string
from typing import Any

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

_CHINESE = "\u4e00-\u9fff"
"""Those around which every BERT tokenizer divides a text, and that normalization leaves as they are."""


class TextEnds:
    """Ends of texts for `tokenizer`, a `tokenizers.Tokenizer`; of other families, the whole text is its end."""

    def __init__(self, tokenizer: Any) -> None:
        self._places = _places(tokenizer)

    def of(self, text: str, min_chars: int) -> str:
        """An end of `text` with about `min_chars` characters, or more if it can begin only earlier."""
        while self._places and min_chars < len(text):
            if place := self._places.search(text, len(text) - min_chars):
                return text[place.start() :]
            min_chars *= 4
        return text


def _places(tokenizer: Any) -> re.Pattern[str] | None:
    """Characters before which `tokenizer` divides every text; None if there may be none."""
    normalizer = tokenizer.normalizer
    if not isinstance(tokenizer.pre_tokenizer, BertPreTokenizer) or not isinstance(normalizer, BertNormalizer):
        return None
    added = list(tokenizer.get_added_tokens_decoder().values())
    in_tokens = set().union(*(token.content for token in added))
    if any(token.single_word for token in added) or any(map(str.isspace, in_tokens)):
        return None
    marks = "".join(mark for mark in string.punctuation if mark not in in_tokens)
    chinese = _CHINESE if normalizer.handle_chinese_chars and all(map(str.isascii, in_tokens)) else ""
    return re.compile(f"[ \\n\\t{re.escape(marks)}{chinese}]")
