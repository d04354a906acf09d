"""GET /healthz, /readyz, /health, /metrics: liveness, readiness and Prometheus metrics."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from reward_service.errors import UnauthorizedError
from reward_service.http.app_state import AppState, AppStateDep
from reward_service.http.auth import presented_keys
from reward_service.http.cached_bodies import LargeResponse
from reward_service.http.openapi import ERROR_RESPONSES
from reward_service.http.readiness import UnreadyError
from reward_service.telemetry.metrics import EXPOSITION_TYPE

router = APIRouter(tags=["operations"])

_READY = "Whether the service can score"
_NOT_READY: dict[int | str, dict[str, Any]] = {503: ERROR_RESPONSES[503]}


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether the process is alive")
async def healthz() -> dict[str, str]:
    """Liveness: the event loop of the process runs."""
    return {"status": "alive"}


class Ready(BaseModel):
    """The service can score."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Literal["ready"] = "ready"
    """Always this; the status code is 503 otherwise."""
    notices: list[str] | None = None
    """Gold models that give no scores now, because of their servers; absent if there are none."""


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary=_READY, response_model_exclude_none=True, responses=_NOT_READY)
@router.get("/health", summary=_READY, response_model_exclude_none=True, responses=_NOT_READY)  # as model servers
async def readyz(request: Request, state: AppStateDep) -> Ready:
    """Readiness: every model is loaded and computes, and the service is not shutting down.

    A gold model behind a server counts as ready once it is loaded.
    """
    state.pipeline.drain.check()
    try:
        await state.readiness.probe()
    except UnreadyError as exc:
        if _is_stranger(request, state):
            raise exc.redacted() from None
        raise
    notices = [notice for gold in state.scorer.golds for notice in state.readiness.notices(gold)]
    if notices and _is_stranger(request, state):
        notices = ["a gold model gives no scores; see the log of the service for the cause"]
    return Ready(notices=notices or None)


def _is_stranger(request: Request, state: AppState) -> bool:
    if state.keys is None:
        return False
    try:
        return state.keys.find(presented_keys(request.scope["headers"])) is None
    except UnauthorizedError:  # it presents too many keys
        return True


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(state: AppStateDep) -> Response:
    """Metrics in Prometheus' text format; made in a thread, because they may be thousands of lines."""
    return LargeResponse(await state.exposition(), media_type=EXPOSITION_TYPE)
