"""Error replies: RFC 9457 problem documents. Tolerant, like all replies."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FieldError(BaseModel):
    """One error in a request."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)

    item: int | None = None
    """Index of the item in `items`, when the error belongs to one item."""
    id: str | None = None
    """The item's `id`, when it has one."""
    field: str
    """Dotted path of the field, for instance `items.3.reference`."""
    message: str
    """What is wrong, and what is needed."""


class Problem(BaseModel):
    """What went wrong, and what the caller can do about it."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str = "about:blank"
    """Always `about:blank`: the status says which kind of error it is."""
    title: str
    """Name of the status."""
    status: int
    """The HTTP status."""
    detail: str
    """What went wrong, for people."""
    errors: list[FieldError] = []
    """The fields that are wrong, at most a hundred."""
