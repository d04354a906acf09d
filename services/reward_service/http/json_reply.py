"""JSON replies: serialised in parts, so that other threads can run between them."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_core import to_json

__all__ = ["dump"]

_ELEMENTS = 256
"""Elements of a list that are serialised in one call."""


def dump(reply: BaseModel) -> bytes:
    """What `reply.model_dump_json()` returns, for a model without aliases and custom serializers."""
    fields = []
    for name, value in reply:
        if isinstance(value, list) and len(value) > _ELEMENTS:
            slices = (value[start : start + _ELEMENTS] for start in range(0, len(value), _ELEMENTS))
            content = b"[" + b",".join(to_json(part)[1:-1] for part in slices) + b"]"
        else:
            content = to_json(value)
        fields.append(to_json(name) + b":" + content)
    return b"{" + b",".join(fields) + b"}"
