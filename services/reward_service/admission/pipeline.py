"""Request pipeline: what happens to every request of a protocol, in this order.

    draining? ─▶ deadline ─▶ room for the body? ─▶ body read ─▶ room in the model queues? ─▶ idempotent?
      503          504         503, or held           408         429 or 503, or held          replay, 422
    ─▶ parse, validate, prepare (in steps) ─▶ enqueue ─▶ models ─▶ reply (in steps) ─▶ response
         422, 413                                          500

Capacity is checked once per request, for all the models that it needs, and before the body is parsed if the
protocol knows these models without parsing. Requests with a known Idempotency-Key skip the check. Refusals are
cheap, so that an overloaded service spends its processor time on its models. Work in steps is for the
`StepExecutor`. A request whose deadline passes or whose client disconnects is dropped wherever it is.
"""

import asyncio
import math
import re
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reward_client.wire import FieldError
from reward_service.admission.dataset_option import references_in, refuse_options
from reward_service.admission.hold import AdmissionHold, Drain
from reward_service.admission.idempotency import (
    IDEMPOTENCY_HEADER,
    IdempotencyCache,
    fingerprint,
    idempotency_key,
)
from reward_service.admission.memory import MAX_PAUSE_S, MemoryBudget, MemoryClaim
from reward_service.admission.scoring_work import new_work
from reward_service.admission.transfer import check_head, receive_body, send_response
from reward_service.admission.work import Work, WorkContext
from reward_service.batching import StepExecutor, complete
from reward_service.datasets.store import DatasetStore
from reward_service.errors import DeadlineError, GlassboxError, InvalidRequestError, TooLargeError
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.http.problems import CLIENT_CLOSED_REQUEST, error_response
from reward_service.http.request_context import RequestContext, request_context
from reward_service.protocols.base import (
    OPTIONS,
    Body,
    Call,
    EndpointSpec,
    GoldSpec,
    NoBody,
    ProtocolSpec,
    RouteSpec,
)
from reward_service.scoring.pipeline import Scorer
from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

DEADLINE_HEADER = "Glassbox-Deadline-S"
_LARGE_BYTES = 1024 * 1024
_KEY = IDEMPOTENCY_HEADER.lower().encode()
_SECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")


def deadline_s(headers: Mapping[bytes, bytes], settings: Settings, answer_s: float = math.inf) -> float:
    """Seconds from receipt in which a request must be answered, which its client needs within `answer_s`.

    Raises InvalidRequestError for a bad header.
    """
    limit = min(settings.request_timeout_s, answer_s)
    given = headers.get(DEADLINE_HEADER.lower().encode())
    if given is None:
        return limit
    if not _SECONDS.fullmatch(given) or not math.isfinite(float(given)) or float(given) <= 0:
        message = "a number of seconds above 0 is needed, like 2.5"
        raise InvalidRequestError(
            f"{DEADLINE_HEADER}: {message}", [FieldError(field=DEADLINE_HEADER, message=message)]
        )
    return min(limit, float(given))


class RequestPipeline:
    """Answers the requests of all protocols."""

    def __init__(
        self,
        settings: Settings,
        recipes: RecipeRegistry,
        scorer: Scorer,
        executor: StepExecutor,
        metrics: Metrics,
        memory: MemoryBudget,
        datasets: DatasetStore,
    ) -> None:
        self.drain = Drain(metrics)
        self._hold = AdmissionHold(settings.max_hold_s, self.drain, metrics)
        self._settings = settings
        self._recipes = recipes
        self._executor = executor
        self._works = WorkContext(scorer, executor, self._hold, metrics)
        self._metrics = metrics
        self._memory = memory
        self._datasets = datasets
        self._replies = IdempotencyCache(settings, metrics)

    async def serve(self, spec: EndpointSpec[Any], scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of protocol `spec`."""
        with self._memory.claim(request_context().caller) as claim:
            await send_response(await self._response(spec, scope, receive, claim), send)

    async def _response(
        self, spec: EndpointSpec[Any], scope: Scope, receive: Receive, claim: MemoryClaim
    ) -> Response:
        try:
            content = await self._before_deadline(spec, scope, receive, claim)
        except GlassboxError as exc:
            self._metrics.refused(scope["route"].path, exc.cause, exc.caller_class)
            response = error_response(exc)
            _drop_frames(exc)
        except ClientDisconnect as exc:
            self._metrics.refused(scope["route"].path, "client_gone")
            _drop_frames(exc)
            response = Response(status_code=CLIENT_CLOSED_REQUEST)
        else:
            response = Response(content, media_type="application/json")
        claim.keep(len(response.body))
        return response

    async def _before_deadline(
        self, spec: EndpointSpec[Any], scope: Scope, receive: Receive, claim: MemoryClaim
    ) -> bytes:
        self.drain.check()
        context = request_context()
        seconds = deadline_s(context.headers, self._settings, spec.answer_s)
        try:
            async with asyncio.timeout_at(context.received + seconds) as limit:
                context.limit = limit
                return await self._answer(spec, scope, receive, context, claim)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise DeadlineError(f"no answer within {seconds:g} s; unfinished work was dropped") from exc

    async def _answer(
        self,
        spec: EndpointSpec[Any],
        scope: Scope,
        receive: Receive,
        context: RequestContext,
        claim: MemoryClaim,
    ) -> bytes:
        key = idempotency_key(context.headers, context.caller) if _KEY in context.headers else None
        body = await self._body(spec, context, receive, claim)
        digest = b"" if key is None else await self._fingerprint(scope, context, body)
        try:
            work = self._work(spec, scope, context, body, claim)
        except GlassboxError as exc:  # the options in the URL are wrong
            if isinstance(spec, ProtocolSpec):
                self._metrics.run_failed(scope["path_params"].get("run"), None, exc.cause)
            raise
        del body  # `work` drops it once it is parsed
        try:
            if key is None or not self._replies.contains(key):
                work.admit()
            async with _connected(receive):
                if key is None:
                    return await work.run()
                return await self._replies.get_or_compute(key, digest, work.run)
        finally:
            work.close_if_unstarted()

    async def _fingerprint(self, scope: Scope, context: RequestContext, body: Body) -> bytes:
        steps = fingerprint(scope["path"], scope["query_string"], context.headers, body)
        return complete(steps) if len(body) < _LARGE_BYTES else await self._executor.run(context.caller, steps)

    async def _body(
        self, spec: EndpointSpec[Any], context: RequestContext, receive: Receive, claim: MemoryClaim
    ) -> Body:
        if spec.request_model is NoBody:
            return b""
        check = partial(check_head, context.headers, claim, self._settings)
        if not self._hold.admit_now(spec, context.caller, "memory", check):
            await self._hold.wait(spec, context.caller, "memory", check)
        max_wait_s = max(self._hold.hold_s(spec), MAX_PAUSE_S)
        return await receive_body(context.headers, receive, claim, self._settings, max_wait_s)

    def _work(
        self, spec: EndpointSpec[Any], scope: Scope, context: RequestContext, body: Body, claim: MemoryClaim
    ) -> Work:
        in_path, in_query = scope["path_params"].get(OPTIONS, ""), scope["query_string"].decode("latin-1")
        query_string = "&".join(filter(None, (in_path, in_query)))
        call = Call(self._settings, self._recipes, context.headers, scope["path_params"], [], context.caller)
        if query_string:
            call.query = query = _parameters(query_string, self._settings.max_url_parameters)
            if isinstance(spec, GoldSpec):
                refuse_options(query)
            else:
                call.query, call.references = references_in(query, self._datasets, context.caller)
        if isinstance(spec, ProtocolSpec):
            call.options = spec.options(call, body)
        return new_work(spec, call, body, self._works, claim)


class ProtocolRoute(Route):
    """A route of a protocol, served by the application's `RequestPipeline`."""

    def __init__(self, route: RouteSpec, spec: EndpointSpec[Any]) -> None:
        super().__init__(route.path, _Endpoint(spec), methods=[route.method], include_in_schema=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return match, {**child, "route": self} if match != Match.NONE else child


class ProtocolMiddleware:
    """Serves `routes` before FastAPI's middleware and routing, which would make refusals expensive."""

    def __init__(self, app: ASGIApp, routes: Sequence[ProtocolRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route in self._routes:
                match, child = route.matches(scope)
                if match == Match.FULL:
                    scope.update(child)
                    await route.app(scope, receive, send)
                    return
        await self._app(scope, receive, send)


class _Endpoint:
    def __init__(self, spec: EndpointSpec[Any]) -> None:
        self._spec = spec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pipeline: RequestPipeline = scope["app"].state.pipeline
        await pipeline.serve(self._spec, scope, receive, send)


def _parameters(query_string: str, most: int) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query_string, keep_blank_values=True, max_num_fields=most)
    except ValueError as exc:
        raise too_many_parameters(most) from exc


def too_many_parameters(most: int) -> TooLargeError:
    """The error of a URL with more than `most` parameters."""
    message = f"has more than {most} parameters"
    return TooLargeError(f"the URL {message}", [FieldError(field="url", message=message)])


def _drop_frames(exc: BaseException | None) -> None:
    """Free the body and the items that the frames of `exc` hold.

    The frames refer to `exc` through futures, so only a garbage collection would free them.
    """
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc.__traceback__ = None
        exc = exc.__context__


@asynccontextmanager
async def _connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects, and raise ClientDisconnect. The body must have been read."""
    try:
        async with asyncio.timeout(None) as connected:
            watcher = asyncio.create_task(_expire_on_disconnect(receive, connected), name="disconnect")
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if not connected.expired():
            raise
        raise ClientDisconnect from None


async def _expire_on_disconnect(receive: Receive, connected: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    connected.reschedule(0)
