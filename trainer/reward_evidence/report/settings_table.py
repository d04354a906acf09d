"""Nested settings as rows of a table."""

from collections.abc import Mapping
from typing import Any

_MAX_VALUE_CHARS = 2000
"""Maximum length of a setting on a page."""


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Rows of (dotted name, value as text) of nested mappings."""
    if isinstance(value, Mapping) and value:
        return [row for key, part in value.items() for row in flat(part, f"{name}.{key}" if name else str(key))]
    text = " ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
    return [(name, text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + " …")]
