"""The request flow: one call with its retries, without I/O.

    request_flow(call) ── SendRequest | Sleep ─▶ client ── RawResponse | TransportFailure ─▶ … ─▶ response or error

A generator, like `auth_flow` of httpx: it yields the next step, the client performs the step and sends back the
outcome. So one flow serves the synchronous and the asynchronous client, and tests need no sockets.

It selects the URL of each attempt and decides whether to retry. Another URL is tried at once, the same URL only
after a delay; `RetryPolicy.budget_s` bounds retries of the same URL, the deadline bounds both.
"""

import random
import ssl
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

import httpx

from reward_client.endpoints import Endpoints
from reward_client.errors import RewardError, RewardRejectedError, RewardUnavailableError, read_problem
from reward_client.retry import RetryPolicy, backoff_s, parse_retry_after
from reward_client.wire import WIRE_VERSION, WIRE_VERSION_HEADER, Problem

DEADLINE_HEADER = "glassbox-deadline-s"
"""Seconds, counted from sending, after which the client stops waiting: the service should not begin later."""

_CANNOT_SERVE = frozenset({502, 503, 504})
"""Statuses of an unhealthy service; the other retryable ones are about its load or about the request."""

_SLACK_S = 0.05
"""Seconds before the deadline at which a timeout is that of the deadline: clocks and timers round."""

_NO_ROUTE = frozenset({404, 405})
"""Statuses of a URL with a path that the service does not have, or of another server."""

_NOT_RETRYABLE = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
"""Transport errors that occur again with every attempt."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Configuration of every call of a client, with its sources of time and random numbers."""

    retry: RetryPolicy
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 180.0
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Call:
    """A request, independent of the URL it is sent to."""

    method: str
    path: str
    body: bytes | None = None
    deadline_at_s: float | None = None
    """Time on the clock of `ClientConfig` at which the call fails."""
    deadline_s: float | None = None
    """The deadline in seconds from the start of the call, for messages."""
    respects_circuit: bool = True
    """False for a readiness check, which is sent even while the circuit is open."""
    hint: str = " Is the service up? Try GET /readyz."
    """End of the message when no response came; empty for a server that may have no such route."""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Send a request, and return the response or the failure."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    connect_timeout_s: float
    read_timeout_s: float
    """Seconds for sending the request, and as many for the whole response."""
    left_s: float | None
    """Seconds for the whole attempt, with the wait for a free connection; None: that wait is not limited."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RawResponse:
    """The response of a service, not yet parsed."""

    status: int
    body: bytes
    reason: str = ""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """Why an attempt got no response."""

    cause: httpx.RequestError


Step = SendRequest | Sleep
Outcome = RawResponse | TransportFailure | None
RequestFlow = Generator[Step, Outcome, RawResponse]


def request_flow(call: Call, endpoints: Endpoints, config: ClientConfig) -> RequestFlow:
    """Send `call` until a response is final; raise RewardError if that takes too long."""
    return (yield from _RequestFlow(call, endpoints, config).run())


class _RequestFlow:
    """One call and the state of its attempts."""

    def __init__(self, call: Call, endpoints: Endpoints, config: ClientConfig) -> None:
        self._call = call
        self._endpoints = endpoints
        self._config = config
        self._started_s = config.clock()
        self._key = uuid.uuid4().hex
        self._attempts = [0] * len(endpoints.addresses)
        self._not_before_s: dict[int, float] = {}
        self._sent_at_s = self._started_s
        self._causes: dict[int, str] = {}
        self._failures: dict[int, Exception | None] = {}
        """By URL, as `_causes`, the transport failure of the last attempt; None if the service answered."""

    def run(self) -> RequestFlow:
        while True:
            now_s = self._config.clock()
            self._check_deadline(now_s)
            index, wait_s = self._endpoints.begin(
                self._not_before_s, now_s, respect_circuit=self._call.respects_circuit
            )
            if wait_s > 0:
                self._check_time_for(wait_s, now_s)
                yield Sleep(wait_s)
                continue
            self._check_repeat(index, now_s)
            outcome = yield from self._attempt(index, now_s)
            if isinstance(outcome, RawResponse) and outcome.status not in self._config.retry.statuses:
                return _accepted(outcome, self._endpoints.addresses[index].url + self._call.path)
            self._note_failure(index, outcome)

    def _check_repeat(self, index: int, now_s: float) -> None:
        """Check the budget before a retry without Sleep: another URL's attempt took longer than the delay."""
        if not self._attempts[index]:
            return  # the first attempt at a URL needs no budget
        try:
            self._check_time_for(0.0, now_s)
        except RewardUnavailableError:
            self._endpoints.abandoned(index)
            raise

    def _attempt(self, index: int, now_s: float) -> Generator[Step, Outcome, RawResponse | TransportFailure]:
        self._attempts[index] += 1
        self._sent_at_s = now_s
        try:
            outcome = yield self._send(index, now_s)
        except BaseException:  # the call was cancelled, or the flow was closed
            self._endpoints.abandoned(index)
            raise
        assert outcome is not None  # noqa: S101 - a SendRequest always has an outcome
        if isinstance(outcome, TransportFailure) and isinstance(outcome.cause, httpx.PoolTimeout):
            self._endpoints.abandoned(index)  # nothing was sent, so it is not a failure of the service
        elif isinstance(outcome, TransportFailure):
            self._endpoints.failed(index, self._config.clock(), _describe(outcome))
        elif outcome.status in _CANNOT_SERVE:
            retry_after_s = parse_retry_after(outcome.retry_after)
            self._endpoints.failed(index, self._config.clock(), _describe(outcome), retry_after_s)
        else:
            self._endpoints.succeeded(index, self._config.clock())
        return outcome

    def _send(self, index: int, now_s: float) -> SendRequest:
        address, config, call = self._endpoints.addresses[index], self._config, self._call
        headers = {
            "content-type": "application/json",
            WIRE_VERSION_HEADER.lower(): str(WIRE_VERSION),
            **address.headers(),
        }
        if call.method == "POST":
            headers["idempotency-key"] = self._key
        left_s = None if call.deadline_at_s is None else call.deadline_at_s - now_s
        if left_s is not None:
            headers[DEADLINE_HEADER] = f"{max(left_s, 0.001):.3f}"  # the service rejects 0.000
        cap_s = float("inf") if left_s is None else left_s
        return SendRequest(
            method=call.method,
            url=address.url + call.path,
            headers=headers,
            body=call.body,
            connect_timeout_s=min(config.connect_timeout_s, cap_s),
            read_timeout_s=min(config.read_timeout_s, cap_s),
            left_s=left_s,
        )

    def _note_failure(self, index: int, outcome: RawResponse | TransportFailure) -> None:
        retry_after_s = None
        self._note_cause(index, outcome)
        if isinstance(outcome, TransportFailure):
            if problem := _certificate_problem(outcome.cause):
                raise RewardError(
                    f"the certificate of {self._endpoints.addresses[index].url} is not trusted: {problem}. If its "
                    "authority is your own, set SSL_CERT_FILE to the file with that authority's certificate."
                ) from outcome.cause
            if not isinstance(outcome.cause, httpx.TransportError) or isinstance(outcome.cause, _NOT_RETRYABLE):
                url = self._endpoints.addresses[index].url
                raise RewardError(f"the response of {url} is unusable: {_describe(outcome)}") from outcome.cause
        else:
            retry_after_s = parse_retry_after(outcome.retry_after)
        pause_s = backoff_s(
            self._config.retry,
            attempt=self._attempts[index],
            retry_after_s=retry_after_s,
            jitter=self._config.random(),
        )
        # Never 0, so that another URL is tried first.
        self._not_before_s[index] = self._config.clock() + max(pause_s, 1e-6)

    def _note_cause(self, index: int, outcome: RawResponse | TransportFailure) -> None:
        """Record what was seen. One that the deadline ended says less than the one before, which is kept."""
        failure = outcome.cause if isinstance(outcome, TransportFailure) else None
        now_s, ends_s = self._config.clock(), self._call.deadline_at_s
        is_cut = isinstance(failure, httpx.TimeoutException) and ends_s is not None and now_s >= ends_s - _SLACK_S
        if is_cut and index in self._causes:
            spent_s = now_s - self._sent_at_s
            self._causes[index] += f"; the deadline ended the next attempt after {spent_s:.1f} s"
        else:
            self._failures.pop(index, None)  # in the order of the attempts
            self._causes[index], self._failures[index] = _describe(outcome), failure

    def _check_deadline(self, now_s: float) -> None:
        if self._call.deadline_at_s is not None and now_s >= self._call.deadline_at_s:
            raise self._unavailable(f"the deadline of {self._call.deadline_s:g} s is over")

    def _check_time_for(self, wait_s: float, now_s: float) -> None:
        """Fail now if the retry budget or the deadline would be over after `wait_s`."""
        if now_s - self._started_s + wait_s >= self._config.retry.budget_s:
            raise self._unavailable(f"the retry budget is {self._config.retry.budget_s:g} s")
        if self._call.deadline_at_s is not None and now_s + wait_s >= self._call.deadline_at_s:
            raise self._unavailable(f"the deadline of {self._call.deadline_s:g} s comes before the next attempt")

    def _unavailable(self, bound: str) -> RewardUnavailableError:
        now_s = self._config.clock()
        urls = [address.url for address in self._endpoints.addresses]
        causes = [f"{urls[index]}: {cause}" for index, cause in sorted(self._causes.items())]
        parts = [
            f"the request to {' or '.join(url + self._call.path for url in urls)} failed after "
            f"{sum(self._attempts)} attempt(s) in {now_s - self._started_s:.1f} s; {bound}",
            *(["last cause " + ", ".join(causes)] if causes else []),
            *self._endpoints.open_circuits(now_s),
        ]
        error = RewardUnavailableError("; ".join(parts) + f".{self._call.hint}")
        error.causes = tuple(causes if len(urls) > 1 else self._causes.values())
        if None not in self._failures.values():
            error.__cause__ = next(reversed(self._failures.values()), None)
        return error


def _certificate_problem(cause: BaseException | None) -> str | None:
    """Why the certificate of a connection was refused; None if it was not."""
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None


def _accepted(response: RawResponse, url: str) -> RawResponse:
    if 200 <= response.status < 300:
        return response
    if response.status < 500:
        problem = _problem(response)
        if problem.status in _NO_ROUTE and problem.detail in ("", problem.title):
            problem = problem.model_copy(update={"detail": f"the server has no such route: {url}"})
        raise RewardRejectedError(problem)
    raise RewardError(f"the service failed: {_describe(response)}")


def _problem(response: RawResponse) -> Problem:
    return read_problem(response.status, response.reason, response.body)


def _describe(outcome: RawResponse | TransportFailure) -> str:
    if isinstance(outcome, TransportFailure):
        return f"{type(outcome.cause).__name__}: {outcome.cause}"
    problem = _problem(outcome)
    return f"{problem.status} {problem.title}: {problem.detail}"
