"""One call from first attempt to outcome, free of I/O: it yields what to do next and is told what came of it.

    request_flow(call) ── SendRequest | Sleep ─▶ shell ── RawResponse | TransportFailure ─▶ … ─▶ response or error

It decides which URL is asked, what is tried again and when it is over. Another URL is tried at once, the same one
only after its wait; `RetryPolicy.budget_s` bounds the second kind, the deadline both.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

import httpx
from pydantic import ValidationError

from reward_client.endpoints import Endpoints
from reward_client.errors import RewardError, RewardRejectedError, RewardUnavailableError
from reward_client.retry import RETRYABLE, RetryPolicy, backoff_s, parse_retry_after
from reward_client.wire import WIRE_VERSION, WIRE_VERSION_HEADER, Problem

__all__ = [
    "Call",
    "ClientConfig",
    "Conversation",
    "Outcome",
    "RawResponse",
    "SendRequest",
    "Sleep",
    "Step",
    "TransportFailure",
    "request_flow",
]

DEADLINE_HEADER = "glassbox-deadline-s"
"""Seconds, from the moment of sending, after which the caller is gone: the service need not begin later."""

_CANNOT_SERVE = frozenset({502, 503, 504})
"""Statuses that speak of the service's health; the other retryable ones speak of its load or of the request."""

_OWN_FAULT = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
"""Transport errors that no second attempt mends."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Bounds of every call of a client, and where it takes time and chance from."""

    retry: RetryPolicy
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 180.0
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, whoever is asked."""

    method: str
    path: str
    body: bytes | None = None
    deadline_at_s: float | None = None
    """On the clock of `ClientConfig`; the call has failed by then."""
    deadline_s: float | None = None
    """The same as the caller gave it, for messages."""
    heeds_circuit: bool = True
    """False for the question whether the service is ready: it is asked to find out."""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Ask `url`, and say what came of it."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    connect_timeout_s: float
    read_timeout_s: float
    """Seconds for the whole answer, from its beginning to its last byte; and for sending what is asked."""
    left_s: float | None
    """Seconds for all of it, waiting for a free connection included; without a deadline, standing in line is no
    failure."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RawResponse:
    """What a service answered."""

    status: int
    body: bytes
    reason: str = ""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """Why there is none."""

    cause: httpx.RequestError


Step = SendRequest | Sleep
Outcome = RawResponse | TransportFailure | None
Conversation = Generator[Step, Outcome, RawResponse]


def request_flow(call: Call, endpoints: Endpoints, terms: ClientConfig) -> Conversation:
    """Ask until an answer that another attempt cannot better; raise RewardError when there is none in time."""
    return (yield from _RequestFlow(call, endpoints, terms).run())


class _RequestFlow:
    """One call, and what it has seen so far."""

    def __init__(self, call: Call, endpoints: Endpoints, terms: ClientConfig) -> None:
        self._call = call
        self._endpoints = endpoints
        self._terms = terms
        self._started_s = terms.clock()
        self._key = uuid.uuid4().hex
        self._attempts = [0] * len(endpoints.addresses)
        self._not_before_s: dict[int, float] = {}
        self._causes: dict[int, str] = {}
        self._last: Exception | None = None

    def run(self) -> Conversation:
        while True:
            now_s = self._terms.clock()
            self._check_deadline(now_s)
            index, wait_s = self._endpoints.begin(self._not_before_s, now_s, heed_circuit=self._call.heeds_circuit)
            if wait_s > 0:
                self._check_time_for(wait_s, now_s)
                yield Sleep(wait_s)
                continue
            self._check_repeat(index, now_s)
            outcome = yield from self._attempt(index, now_s)
            if isinstance(outcome, RawResponse) and outcome.status not in RETRYABLE:
                return _accepted(outcome)
            self._note_failure(index, outcome)

    def _check_repeat(self, index: int, now_s: float) -> None:
        """Another URL's attempt may have outlasted this one's pause: then no Sleep has seen the budget."""
        if not self._attempts[index]:
            return  # every URL is asked once
        try:
            self._check_time_for(0.0, now_s)
        except RewardUnavailableError:
            self._endpoints.abandoned(index)
            raise

    def _attempt(self, index: int, now_s: float) -> Generator[Step, Outcome, RawResponse | TransportFailure]:
        self._attempts[index] += 1
        try:
            outcome = yield self._send(index, now_s)
        except BaseException:  # the caller was cancelled, or closed the conversation
            self._endpoints.abandoned(index)
            raise
        assert outcome is not None  # noqa: S101 - the shell answers a SendRequest with an outcome
        if isinstance(outcome, TransportFailure) and isinstance(outcome.cause, httpx.PoolTimeout):
            self._endpoints.abandoned(index)  # the line here was too long; nothing is known of the service
        elif isinstance(outcome, TransportFailure):
            self._endpoints.failed(index, self._terms.clock(), _describe(outcome))
        elif outcome.status in _CANNOT_SERVE:
            asked_s = parse_retry_after(outcome.retry_after)
            self._endpoints.failed(index, self._terms.clock(), _describe(outcome), asked_s)
        else:
            self._endpoints.succeeded(index, self._terms.clock())
        return outcome

    def _send(self, index: int, now_s: float) -> SendRequest:
        address, terms, call = self._endpoints.addresses[index], self._terms, self._call
        headers = {
            "content-type": "application/json",
            WIRE_VERSION_HEADER.lower(): str(WIRE_VERSION),
            **address.headers(),
        }
        if call.method == "POST":
            headers["idempotency-key"] = self._key
        left_s = None if call.deadline_at_s is None else call.deadline_at_s - now_s
        if left_s is not None:
            headers[DEADLINE_HEADER] = f"{left_s:.3f}"
        cap_s = float("inf") if left_s is None else left_s
        return SendRequest(
            method=call.method,
            url=address.url + call.path,
            headers=headers,
            body=call.body,
            connect_timeout_s=min(terms.connect_timeout_s, cap_s),
            read_timeout_s=min(terms.read_timeout_s, cap_s),
            left_s=left_s,
        )

    def _note_failure(self, index: int, outcome: RawResponse | TransportFailure) -> None:
        self._causes[index] = _describe(outcome)
        retry_after_s = None
        if isinstance(outcome, TransportFailure):
            self._last = outcome.cause
            if not isinstance(outcome.cause, httpx.TransportError) or isinstance(outcome.cause, _OWN_FAULT):
                url = self._endpoints.addresses[index].url
                raise RewardError(f"the answer of {url} cannot be used: {_describe(outcome)}") from outcome.cause
        else:
            self._last, retry_after_s = None, parse_retry_after(outcome.retry_after)
        pause_s = backoff_s(
            self._terms.retry,
            attempt=self._attempts[index],
            retry_after_s=retry_after_s,
            jitter=self._terms.draw(),
        )
        # Never 0, so that another URL has its turn first.
        self._not_before_s[index] = self._terms.clock() + max(pause_s, 1e-6)

    def _check_deadline(self, now_s: float) -> None:
        if self._call.deadline_at_s is not None and now_s >= self._call.deadline_at_s:
            raise self._gave_up(f"the deadline of {self._call.deadline_s:g} s is over")

    def _check_time_for(self, wait_s: float, now_s: float) -> None:
        """A wait that ends behind budget or deadline would only delay the bad news."""
        if now_s - self._started_s + wait_s >= self._terms.retry.budget_s:
            raise self._gave_up(f"the retry budget is {self._terms.retry.budget_s:g} s")
        if self._call.deadline_at_s is not None and now_s + wait_s >= self._call.deadline_at_s:
            raise self._gave_up(f"the deadline of {self._call.deadline_s:g} s comes before the next attempt")

    def _gave_up(self, bound: str) -> RewardUnavailableError:
        now_s = self._terms.clock()
        urls = [address.url for address in self._endpoints.addresses]
        causes = [f"{urls[index]}: {cause}" for index, cause in sorted(self._causes.items())]
        said = [
            f"no reward from {' or '.join(url + self._call.path for url in urls)} after {sum(self._attempts)} "
            f"attempt(s) in {now_s - self._started_s:.1f} s; {bound}",
            *(["last cause " + ", ".join(causes)] if causes else []),
            *self._endpoints.open_sentences(now_s),
        ]
        error = RewardUnavailableError("; ".join(said) + ". Is the service up? Try GET /readyz.")
        error.__cause__ = self._last
        return error


def _accepted(answer: RawResponse) -> RawResponse:
    if 200 <= answer.status < 300:
        return answer
    if answer.status < 500:
        raise RewardRejectedError(_problem(answer))
    raise RewardError(f"the reward service failed: {_describe(answer)}")


def _problem(answer: RawResponse) -> Problem:
    try:
        return Problem.model_validate_json(answer.body)
    except ValidationError:
        text = answer.body[:2000].decode("utf-8", errors="replace")[:500]
        return Problem(title=answer.reason or "error", status=answer.status, detail=text)


def _describe(outcome: RawResponse | TransportFailure) -> str:
    if isinstance(outcome, TransportFailure):
        return f"{type(outcome.cause).__name__}: {outcome.cause}"
    problem = _problem(outcome)
    return f"{problem.status} {problem.title}: {problem.detail}"
