"""What happens around every scoring route, in this order, before and while the work is done.

draining? ─▶ deadline set ─▶ room for the body? ─▶ body read ─▶ idempotent? ─▶ work ─▶ answer
             └── 504 when it passes   └── held, by protocol          └── dropped when the caller hangs up
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from reward_client.wire import FieldError
from reward_service.admission.body_limits import BodyBudget
from reward_service.admission.cancellation import CancelledByEventError, cancel_on
from reward_service.admission.drain import Drain
from reward_service.admission.hold import HOLD_POLICIES, AdmissionHold, Protocol
from reward_service.admission.idempotency import IdempotencyCache, fingerprint, idempotency_key
from reward_service.errors import DeadlineError, InvalidRequestError
from reward_service.http.request_context import request_context
from reward_service.settings import Settings
from reward_service.telemetry.admission_metrics import AdmissionMetrics

__all__ = ["DEADLINE_HEADER", "RequestPipeline", "deadline_s"]

DEADLINE_HEADER = "Glassbox-Deadline-S"
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

Work = Callable[[bytes], Coroutine[Any, Any, bytes]]


def deadline_s(request: Request, protocol: Protocol, settings: Settings) -> float:
    """Seconds from receipt that the answer may take. Raises InvalidRequestError for a header that is none."""
    own = min(settings.request_timeout_s, HOLD_POLICIES[protocol].answer_s)
    given = request.headers.get(DEADLINE_HEADER)
    if given is None:
        return own
    if not _SECONDS.fullmatch(given) or not math.isfinite(float(given)) or float(given) <= 0:
        message = "a number of seconds above 0 is needed, like 2.5"
        raise InvalidRequestError(
            f"{DEADLINE_HEADER}: {message}", [FieldError(field=DEADLINE_HEADER, message=message)]
        )
    return min(own, float(given))


class RequestPipeline:
    """The state that requests share before they meet a model."""

    def __init__(self, settings: Settings, metrics: AdmissionMetrics) -> None:
        self.metrics = metrics
        self.drain = Drain(metrics)
        self.holder = AdmissionHold(settings.max_hold_s, self.drain, metrics)
        self._settings = settings
        self._bodies = BodyBudget(settings, metrics)
        self._replies = IdempotencyCache(settings, metrics)

    def knows(self, key: str) -> bool:
        """Whether a request with this Idempotency-Key has a reply, or is being answered."""
        return self._replies.contains(key)

    async def answer(self, request: Request, protocol: Protocol, work: Work) -> Response:
        """The reply that `work` makes of the body, as JSON.

        Raises:
            DrainingError, DeadlineError: too late, or nearly.
            ClientDisconnect: the caller hung up; its work was dropped.
            GlassboxError: what `work` raises.
        """
        self.drain.check()
        seconds = deadline_s(request, protocol, self._settings)
        try:
            async with asyncio.timeout_at(request_context().received + seconds) as limit:
                reply = await self._reply(request, protocol, work)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise DeadlineError(f"no answer within {seconds:g} s; what was left undone was dropped") from exc
        return Response(reply, media_type="application/json")

    async def _reply(self, request: Request, protocol: Protocol, work: Work) -> bytes:
        key = idempotency_key(request)
        with self._bodies.place(request) as place:
            await self.holder.admit(protocol, "body", place.reserve)
            body = await place.read()
            if key is None:
                doing = work(body)
            else:
                doing = self._replies.get_or_compute(key, fingerprint(request, body), lambda: work(body))
            try:
                return await cancel_on(_hung_up(request), doing)
            except CancelledByEventError:
                raise ClientDisconnect from None


async def _hung_up(request: Request) -> None:
    """Return when the caller closes its connection. Its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
