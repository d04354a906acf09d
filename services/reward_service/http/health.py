"""GET /healthz, /readyz, /health, /metrics: liveness, readiness and Prometheus metrics."""

from fastapi import APIRouter, Request, Response

from reward_service.http.app_state import AppStateDep
from reward_service.http.auth import presented_keys
from reward_service.http.cached_bodies import LargeResponse
from reward_service.http.openapi import ERROR_RESPONSES
from reward_service.http.readiness import UnreadyError
from reward_service.telemetry.metrics import EXPOSITION_TYPE

router = APIRouter(tags=["operations"])

_READY = "Whether the service can score"


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether the process is alive")
async def healthz() -> dict[str, str]:
    """Liveness: the event loop of the process runs."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary=_READY, responses={503: ERROR_RESPONSES[503]})
@router.get("/health", summary=_READY, responses={503: ERROR_RESPONSES[503]})  # as reward-model servers name it
async def readyz(request: Request, state: AppStateDep) -> dict[str, str]:
    """Readiness: every model is loaded and has just done a forward pass, and the service is not shutting down."""
    state.pipeline.drain.check()
    try:
        await state.readiness.probe()
    except UnreadyError as exc:
        if state.keys is not None and state.keys.find(presented_keys(request.scope["headers"])) is None:
            raise exc.redacted() from None
        raise
    return {"status": "ready"}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(state: AppStateDep) -> Response:
    """Metrics in Prometheus' text format; made in a thread, because they may be thousands of lines."""
    return LargeResponse(await state.exposition(), media_type=EXPOSITION_TYPE)
