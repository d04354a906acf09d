"""What can go wrong inside the service, by whose fault it is. No HTTP here: `api/problems.py` maps it, once.

GlassboxError
├── RequestError            the caller's: names what to change
│   ├── InvalidRequestError     fields that are wrong, each with its item and path
│   ├── TooLargeError           a body, a batch or a text over its limit
│   └── SlowBodyError           a body that did not arrive in time
├── UnavailableError        nobody's: ask again later
│   ├── NotReadyError           models are loading, or failed to
│   ├── OverloadedError         too much is waiting for a model
│   ├── NoRoomError             the bodies of others fill the memory set aside for them
│   └── DrainingError           the service is about to stop
├── DeadlineError           nobody's: the answer would have come too late
├── ModelError              ours: a model failed, or gave a number that is none
└── ConfigurationError      the operator's: the service cannot start like this
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from reward_client.wire import FieldError

__all__ = [
    "ConfigurationError",
    "DeadlineError",
    "DrainingError",
    "GlassboxError",
    "InvalidRequestError",
    "ModelError",
    "NoRoomError",
    "NotReadyError",
    "OverloadedError",
    "RequestError",
    "SlowBodyError",
    "TooLargeError",
    "UnavailableError",
]

_LONGEST_RETRY_AFTER_S = 30.0
"""Whoever stays away for longer finds a service without work."""


class GlassboxError(Exception):
    """Base of all errors that the service explains to its caller."""

    cause: ClassVar[str] = "failed"
    """What metrics count it under."""


class RequestError(GlassboxError):
    """The request cannot be answered as it is; `errors` say what to change."""

    cause = "invalid"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class InvalidRequestError(RequestError):
    """A field has a value that cannot be used."""


class TooLargeError(RequestError):
    """Something is over a limit that `GET /info` states."""

    cause = "too_large"


class SlowBodyError(RequestError):
    """The body did not arrive within `body_timeout_s`."""

    cause = "slow_body"


class UnavailableError(GlassboxError):
    """Not now; the same request may succeed after `retry_after_s` seconds: given as 0 to ∞, kept as 1 to 30."""

    cause = "unavailable"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = min(max(1.0, retry_after_s), _LONGEST_RETRY_AFTER_S)


class NotReadyError(UnavailableError):
    """A model is still loading, or failed to load."""

    cause = "not_ready"


class OverloadedError(UnavailableError):
    """More is waiting than the settings allow."""

    cause = "overloaded"


class NoRoomError(UnavailableError):
    """BodyBudget that are being read or answered fill `max_waiting_bytes`."""

    cause = "no_room"


class DrainingError(UnavailableError):
    """The service was told to stop, and takes nothing new."""

    cause = "draining"


class DeadlineError(GlassboxError):
    """The time that the caller or the settings allow for an answer is over; what was left undone was dropped."""

    cause = "deadline"


class ModelError(GlassboxError):
    """A model failed on this request; `errors` name the items where they are known."""

    cause = "model_failed"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class ConfigurationError(GlassboxError):
    """A setting that the service cannot start with; the message names it and the next step."""
