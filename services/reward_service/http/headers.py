"""A request's head as a dictionary, made once: `Headers.get` looks through all lines for each name."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["header_dict"]


def header_dict(scope: Scope) -> dict[bytes, bytes]:
    """Values by name in lower case; of a name that stands several times the first, as everywhere."""
    return dict(reversed(scope["headers"]))
