"""Text as a tokenizer decodes it: where the prompt ends, and removal of markers."""

from __future__ import annotations

import re

from reward_service.protocols.chat_formats import LEADING, PADDING

_MAX_PADDING_CHARS = 128 * 1024
"""Characters before the prompt in which it is searched: several thousand padding tokens."""

_MIN_OVERLAP = 16
"""Minimum characters of a truncated prompt that must match; shorter matches may be coincidences."""

_MAX_PROBES = 64
"""Maximum positions tried; real prompts repeat the same 16 characters a few times at most."""


def split_query(query: str, prompt: str) -> str:
    """The response in `query`. Raises ValueError when `query` does not begin with a suffix of `prompt`."""
    if query.startswith(prompt):
        return query[len(prompt) :]
    start = query.find(prompt, 0, _MAX_PADDING_CHARS + len(prompt)) if prompt else -1
    if start >= 0 and PADDING.fullmatch(query[:start]):
        return query[start + len(prompt) :]
    bare = LEADING.sub("", query)
    overlap = _overlap(LEADING.sub("", prompt), bare)
    if not overlap:
        raise ValueError("does not begin with the prompt or a suffix of it")
    return bare[overlap:]


def _overlap(prompt: str, query: str) -> int:
    """Length of the longest suffix of `prompt` that is a prefix of `query`; 0 when none is long enough."""
    if query.startswith(prompt):  # they differed only in a BOS token
        return len(prompt)
    probe, start = query[:_MIN_OVERLAP], -1
    for _ in range(_MAX_PROBES):
        start = prompt.find(probe, start + 1)
        if start < 0 or len(prompt) - start < _MIN_OVERLAP:
            break
        if query.startswith(prompt[start:]):
            return len(prompt) - start
    return 0


_PIECE = re.compile(r"[^>\]]*[>\]]|[^>\]]+\Z")
_MAX_MARKER_CHARS = 40
"""Characters of the longest marker and more."""


def remove_markers(markers: re.Pattern[str], text: str) -> str:
    """Remove `markers` from `text`, and those that form when another is removed, in one pass for any nesting.

    No suffix of a marker is a prefix of another marker, so the result does not depend on the order of removal.
    """
    if not markers.search(text):
        return text
    kept: list[str] = []
    for piece in _PIECE.findall(text):
        kept += piece
        if found := markers.search("".join(kept[-_MAX_MARKER_CHARS:])):  # it ends here: earlier ones were removed
            del kept[-len(found[0]) :]
    return "".join(kept)
