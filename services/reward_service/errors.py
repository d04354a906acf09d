"""Errors of the service, by whose fault they are. `http/problems.py` maps them to HTTP statuses.

GlassboxError
├── RequestError            the caller has to change the request
│   ├── InvalidRequestError     fields are invalid; `errors` has the item and path of each
│   ├── TooLargeError           a body, a batch or a text is over its limit
│   ├── UnknownDatasetError     the URL names a data set that the caller does not have
│   ├── SlowBodyError           the body did not arrive in time
│   ├── UnauthorizedError       it has no valid API key
│   ├── MediaTypeError          the body is not declared as JSON
│   ├── CrossSiteError          a web page of another origin sent it
│   └── UnknownHostError        it is addressed to a host that the service does not answer for
├── UnavailableError        temporary: the caller can retry the same request
│   ├── NotReadyError           models are loading
│   │   └── NotLoadedError          or could not be loaded
│   ├── OverloadedError         the queue of a model is full
│   ├── TooManyRequestsError    the caller has too many unanswered requests that are not for scoring
│   ├── NoRoomError             requests hold as much memory as they may
│   ├── GoldUnavailableError    the server of a remote gold model cannot be reached, or is overloaded
│   └── DrainingError           the service is shutting down
├── DeadlineError           the reply would arrive after the deadline
├── StorageError            a data set could not be written or read
│   └── SlowDiskError           its disk does not answer in time: also an UnavailableError
├── ModelError              a model failed, or returned a value that is not a finite number
└── ConfigurationError      the operator has to change a setting: the service cannot start
"""

from collections.abc import Sequence
from typing import ClassVar, Self

from reward_client.wire import FieldError

MAX_ERRORS = 100
"""Errors of fields after which a request is not examined further, and errors in one reply: a caller corrects the
first ones, and thousands of items may have the same."""

_MAX_RETRY_AFTER_S = 30.0
"""Clients that wait longer would leave the service idle after a short overload."""


class GlassboxError(Exception):
    """Base class of the errors that the service reports to its caller."""

    cause: ClassVar[str] = "failed"
    """Value of the label `cause` in the metrics."""
    caller_class: str = ""
    """Who was refused, if shared capacity is the reason: `largest`, which uses most of it, or `other`."""


class RequestError(GlassboxError):
    """The caller has to change the request; `errors` name the fields."""

    cause = "invalid"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)

    @classmethod
    def in_field(cls, field: str, message: str) -> Self:
        """The error of a request in which one field is wrong; `message` continues its name."""
        return cls(f"{field} {message}", [FieldError(field=field, message=message)])


class InvalidRequestError(RequestError):
    """A field is missing, unknown or has an invalid value."""


class TooLargeError(RequestError):
    """The request is over one of the limits that `GET /info` lists."""

    cause = "too_large"


class UnknownDatasetError(RequestError):
    """The path names a data set that the caller does not have."""

    cause = "unknown_dataset"


class SlowBodyError(RequestError):
    """The body did not arrive within `body_timeout_s`, or at less than `min_body_bytes_per_s`."""

    cause = "slow_body"


class UnauthorizedError(RequestError):
    """The request has no API key, or one that is not accepted."""

    cause = "unauthorized"


class MediaTypeError(RequestError):
    """The `Content-Type` is not `application/json`."""

    cause = "media_type"


class CrossSiteError(RequestError):
    """A browser sent the request for a page of another origin."""

    cause = "cross_site"


class UnknownHostError(RequestError):
    """The header `Host` has a name that the service does not answer for."""

    cause = "unknown_host"


class UnavailableError(GlassboxError):
    """The same request may succeed later.

    Args:
        detail: the reason.
        retry_after_s: estimated seconds until then, clamped to 1–30 for the header `Retry-After`.
        caller_class: who is refused, if shared capacity is the reason.
    """

    cause = "unavailable"

    def __init__(self, detail: str, retry_after_s: float, caller_class: str = "") -> None:
        super().__init__(detail)
        self.caller_class = caller_class
        self.retry_after_s = min(max(1.0, retry_after_s), _MAX_RETRY_AFTER_S)


class NotReadyError(UnavailableError):
    """A model is loading, or cannot be used."""

    cause = "not_ready"


class NotLoadedError(NotReadyError):
    """A model could not be loaded: a request that waits for it would wait in vain."""


class OverloadedError(UnavailableError):
    """A caller's work for a model has reached its share of `max_waiting_items`, or `max_waiting_s`."""

    cause = "overloaded"


class TooManyRequestsError(UnavailableError):
    """As many requests of the caller as `max_other_requests`, which are not for scoring, are not answered yet."""

    cause = "too_many_requests"


class NoRoomError(UnavailableError):
    """Requests hold `max_waiting_bytes`, or the caller its share of them."""

    cause = "no_room"


class GoldUnavailableError(UnavailableError):
    """The server of a remote gold model cannot be reached, is overloaded, or does not answer in time."""

    cause = "gold_unavailable"


class DrainingError(UnavailableError):
    """The service is shutting down and accepts no new requests."""

    cause = "draining"


class DeadlineError(GlassboxError):
    """The deadline of the request has passed; its remaining work was cancelled."""

    cause = "deadline"


class StorageError(GlassboxError):
    """A data set could not be written or read: the disk is full, or a file is damaged."""

    cause = "storage"


class SlowDiskError(StorageError, UnavailableError):
    """The disk of the data sets does not answer in time; it may later."""


class ModelError(GlassboxError):
    """A model failed on this request; `errors` name the items if they are known."""

    cause = "model_failed"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


class ConfigurationError(GlassboxError):
    """The service cannot start with a setting; the message names it and what to change."""
