"""API keys: the characters they may have, and mistakes in writing them down. No message shows a key."""

from __future__ import annotations

import re

_IN_A_HEADER = re.compile(r"[\x21-\x7e]+")
_QUOTES = "\"'`"


def fits_in_header(key: str) -> bool:
    """Whether an HTTP header can carry `key`: printable ASCII without blanks, at least one character."""
    return _IN_A_HEADER.fullmatch(key) is not None


def key_problem(key: str) -> str | None:
    """What is wrong with an API key in a variable or a file, without quoting it; None for a usable key.

    Files of variables (`docker --env-file`) keep the quotation marks that a shell removes, and a key that was read
    from a file often ends with a line break.
    """
    if not key.strip():
        return "is empty"
    if key != key.strip():
        return "has white space around it"
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        return "has quotation marks around it; write the key without them"
    return None if fits_in_header(key) else "has characters that are not printable ASCII, or blanks"
