"""Errors of the service, by the party that has to act. `http/problems.py` maps them to HTTP responses.

GlassboxError
├── RequestError            the caller: the error names what to change
│   ├── InvalidRequestError     wrong fields, each with its item and path
│   ├── TooLargeError           a body, a batch or a text over its limit
│   └── SlowBodyError           a body that did not arrive in time
├── UnavailableError        temporary: the caller retries later
│   ├── NotReadyError           models are loading, or failed to load
│   ├── OverloadedError         the queue of a model is full
│   ├── NoRoomError             the memory for request bodies is full
│   └── DrainingError           the service is shutting down
├── DeadlineError           temporary: the reply would have come too late
├── ModelError              the service: a model failed, or returned a number that is not finite
└── ConfigurationError      the operator: the service cannot start with its settings
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
"""With longer delays, an overloaded service would become idle before its clients retry."""


class GlassboxError(Exception):
    """Base class of the errors that the service reports to its callers."""

    cause: ClassVar[str] = "failed"
    """Label of the error in metrics."""


class RequestError(GlassboxError):
    """The request has to be changed; `errors` names the fields."""

    cause = "invalid"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class InvalidRequestError(RequestError):
    """A field has an invalid value."""


class TooLargeError(RequestError):
    """Something exceeds a limit of `GET /info`."""

    cause = "too_large"


class SlowBodyError(RequestError):
    """The body did not arrive within `body_timeout_s`."""

    cause = "slow_body"


class UnavailableError(GlassboxError):
    """The same request may succeed after `retry_after_s` seconds, which are limited to 1 to 30."""

    cause = "unavailable"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = min(max(1.0, retry_after_s), _LONGEST_RETRY_AFTER_S)


class NotReadyError(UnavailableError):
    """A model is loading, or failed to load."""

    cause = "not_ready"


class OverloadedError(UnavailableError):
    """The queue of a model has more items, or more seconds of work, than the settings allow."""

    cause = "overloaded"


class NoRoomError(UnavailableError):
    """Request bodies occupy all of `max_waiting_bytes`."""

    cause = "no_room"


class DrainingError(UnavailableError):
    """The service is shutting down and admits no new requests."""

    cause = "draining"


class DeadlineError(GlassboxError):
    """The time limit of the request has passed; unfinished work was dropped."""

    cause = "deadline"


class ModelError(GlassboxError):
    """A model failed on this request; `errors` names the items, if known."""

    cause = "model_failed"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class ConfigurationError(GlassboxError):
    """The service cannot start with a setting; the message names it and what to do."""
