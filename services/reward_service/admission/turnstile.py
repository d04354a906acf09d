"""Says no cheaply: a service that is full spends its processor on its models, not on refusals.

    POST /score ─▶ small, and the default recipe's encoder full? ─no─▶ the routes
                   └─▶ body here, silent about recipes, encoder still full? ─no─▶ the routes
                       └─▶ 429, Retry-After

It stands before routing and parsing and refuses only what the route would refuse too. Whoever may need no model
(another recipe), may have an answer already (a known Idempotency-Key), or is held rather than refused (other
protocols) goes on to the routes. A full service does not say what else is wrong with a request.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reward_service.admission import idempotency
from reward_service.admission.body_limits import declared_bytes
from reward_service.errors import OverloadedError, UnavailableError
from reward_service.http.app_state import AppState
from reward_service.http.headers import header_dict
from reward_service.http.problems import answer_to

__all__ = ["Turnstile"]

_MAX_BYTES = 32 * 1024
"""Of a body: one message of the server's. To refuse a larger one costs little beside what it cost to send."""
_BODY_WAIT_S = 0.05
"""Seconds for a body that is not here yet; most come with their heads, others are read by the route."""
_KEY = idempotency.HEADER.lower().encode()


class Turnstile:
    """Refuses for `route` while the default recipe's encoder is full; pure ASGI."""

    def __init__(self, app: ASGIApp, route: Route) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._may_refuse(scope) or (first := await _first(receive)) is None:
            await self._app(scope, receive, send)
        elif not _is_plain(first) or (refusal := _refusal(scope)) is None:  # room may have come with the body
            await self._app(scope, _with(first, receive), send)
        else:
            scope["route"] = self._route
            await answer_to(Request(scope), refusal)(scope, receive, send)

    def _may_refuse(self, scope: Scope) -> bool:
        ours = scope["type"] == "http" and scope["path"] == self._route.path and scope["method"] == "POST"
        return ours and _refusal(scope) is not None


def _refusal(scope: Scope) -> OverloadedError | None:
    """Why a request for the default recipe would not be admitted now: its encoder is full.

    None too when something in the head says that the route must see it.
    """
    state: AppState = scope["app"].state.glassbox
    embedder = state.embedder
    if embedder is None or not state.recipes.get(state.settings.default_recipe).needs_encoder:
        return None
    try:
        state.pipeline.drain.check()
        embedder.worker.check()
    except OverloadedError as full:
        return full if _may_be_refused_unread(header_dict(scope), state) else None
    except UnavailableError:  # it stops, or loads: the route knows what to say
        return None
    return None


def _may_be_refused_unread(headers: dict[bytes, bytes], state: AppState) -> bool:
    """A small body that is sent without being asked for, under no key that is known."""
    n_bytes = declared_bytes(headers.get(b"content-length", b""))
    key = headers.get(_KEY)
    small = n_bytes is not None and n_bytes <= _MAX_BYTES
    return small and b"expect" not in headers and (key is None or not state.pipeline.knows(key.decode("latin-1")))


async def _first(receive: Receive) -> Message | None:
    """The first message of the body; None when it is not here."""
    try:
        async with asyncio.timeout(_BODY_WAIT_S):
            return await receive()
    except TimeoutError:
        return None


def _is_plain(message: Message) -> bool:
    """Whether it is a whole body in which no recipe can be named, not even with a key that has escapes."""
    if message["type"] != "http.request" or message.get("more_body"):
        return False
    body = message.get("body", b"")
    return b'"recipe' not in body and b"\\u" not in body


def _with(first: Message, receive: Receive) -> Receive:
    """`receive`, with the message that was taken from it."""
    waiting = [first]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
