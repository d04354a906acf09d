"""Whether the relevance of two texts can be read: an encoder replaces what it has no tokens for by unknown tokens.

It cannot be read when the texts differ and at least half of the characters of one are unknown, or the unknown ones
are all that the two differ in.
"""

from __future__ import annotations

from typing import Literal

from reward_service.features.text import visible
from reward_service.scoring.embedding import LookUp

UNREADABLE_SHARE = 0.5
"""Share of unknown characters from which on a text is unreadable. The embedded encoder: at least 0.97 in Thai,
Lao, Khmer and Burmese, 0.53 to 0.64 in Chinese, at most 0.34 in Japanese, Tibetan, Hindi and Korean."""


def unreadable_side(text: str, response: str, texts: LookUp) -> Literal["text", "response"] | None:
    """Which of the two makes the relevance of `response` to `text` unreadable, if it is; both are in `texts`."""
    a, b = texts.encoded(text), texts.encoded(response)
    known = max(a.unknown_share, b.unknown_share) < UNREADABLE_SHARE
    differ_in_known = not a.unknown_share or a.fingerprint != b.fingerprint
    if (known and differ_in_known) or _as_seen(text) == _as_seen(response):
        return None
    return "text" if a.unknown_share > b.unknown_share else "response"


def _as_seen(text: str) -> str:
    return " ".join(visible(text).casefold().split())
