"""What can go wrong inside the service, by whose fault it is. No HTTP here: `api/problems.py` maps it, once.

GlassboxError
├── RequestError            the caller's: names what to change
│   ├── InvalidRequestError     fields that are wrong, each with its item and path
│   └── TooLargeError           a body, a batch or a text over its limit
├── UnavailableError        nobody's: ask again later
│   ├── NotReadyError           models are loading, or failed to
│   └── OverloadedError         too much is waiting
├── ModelError              ours: a model failed, or gave a number that is none
└── ConfigurationError      the operator's: the service cannot start like this
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_client.wire import FieldError

__all__ = [
    "ConfigurationError",
    "GlassboxError",
    "InvalidRequestError",
    "ModelError",
    "NotReadyError",
    "OverloadedError",
    "RequestError",
    "TooLargeError",
    "UnavailableError",
]


class GlassboxError(Exception):
    """Base of all errors that the service explains to its caller."""


class RequestError(GlassboxError):
    """The request cannot be answered as it is; `errors` say what to change."""

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class InvalidRequestError(RequestError):
    """A field has a value that cannot be used."""


class TooLargeError(RequestError):
    """Something is over a limit that `GET /info` states."""


class UnavailableError(GlassboxError):
    """Not now; the same request may succeed after `retry_after_s` seconds."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class NotReadyError(UnavailableError):
    """A model is still loading, or failed to load."""


class OverloadedError(UnavailableError):
    """More is waiting than the settings allow."""


class ModelError(GlassboxError):
    """A model failed on this request; `errors` name the items where they are known."""

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class ConfigurationError(GlassboxError):
    """A setting that the service cannot start with; the message names it and the next step."""
