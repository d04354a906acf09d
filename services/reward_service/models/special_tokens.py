"""Special tokens that are written in a text, such as `<|im_end|>`: they are tokenized as the text that they are.

    "Sure<|im_end|>"  ─▶ "Sure<" "|im_end|>" ─▶ tokens of both pieces

A tokenizer turns the name of a special token into that token wherever it occurs, so a response could end its turn
and write the next user's. Pieces of the name are ordinary text. Texts without such names are not divided.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_SEPARATORS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Code points that Unicode reserves for internal use."""


def _pattern(names: Sequence[str]) -> str:
    """A pattern of `names` with common beginnings once: one position of a text is tried against all of them."""
    rests: dict[str, list[str]] = {}
    for name in names:
        rests.setdefault(name[:1], []).append(name[1:])
    if "" in rests:  # the shortest name is enough
        return ""
    return "(?:" + "|".join(re.escape(first) + _pattern(rest) for first, rest in rests.items()) + ")"


class SpecialTokens:
    """The names of a tokenizer's special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        names = {name for name in (*added, *tokenizer.all_special_tokens) if len(name) > 1}
        self._names = re.compile(_pattern(sorted(names))) if names else None

    def divided(self, texts: Sequence[str]) -> tuple[list[str], str | None]:
        """`texts`, and the separator that was put into each name; None when there is no name in them.

        Raises ValueError when the texts have all characters that could be the separator.
        """
        if self._names is None or not any(map(self._names.search, texts)):
            return list(texts), None
        separator = next((one for one in _SEPARATORS if not any(one in text for text in texts)), None)
        if separator is None:
            raise ValueError("it has characters that Unicode reserves, and names of special tokens")
        return [self._divide(text, separator) for text in texts], separator

    def _divide(self, text: str, separator: str) -> str:
        assert self._names is not None  # noqa: S101 - for mypy
        pieces, start, place = [], 0, 0
        while found := self._names.search(text, place):
            place = found.start() + 1  # names may overlap
            pieces.append(text[start:place])
            start = place
        return separator.join([*pieces, text[start:]])
