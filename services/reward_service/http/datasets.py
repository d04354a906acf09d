"""Routes of /datasets: data sets of references, for `?dataset=NAME` in the URL of any protocol.

PUT ─▶ lines as they arrive ─▶ rows, in steps of the preparation ─▶ database ─▶ on the disk ─▶ visible at once
         client gone, or not all received by the deadline: cancelled, and the previous data set stays
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from hashlib import blake2b
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from reward_client.wire import DatasetInfo, DatasetList
from reward_service.admission.pipeline import deadline_s
from reward_service.admission.upload import receive_lines
from reward_service.batching import Steps
from reward_service.datasets.store import DATASET_NAME
from reward_service.errors import DeadlineError
from reward_service.http.app_state import AppState, AppStateDep
from reward_service.http.dataset_rows import RowReader, UploadOptions
from reward_service.http.openapi import ERROR_RESPONSES, problem
from reward_service.http.problems import CLIENT_CLOSED_REQUEST
from reward_service.http.request_context import RequestContext, request_context, route_pattern

router = APIRouter(tags=["datasets"])

Name = Annotated[
    str, Path(pattern=f"^{DATASET_NAME.pattern}$", description="Name of the data set.", examples=["arithmetic"])
]
_ERRORS: dict[int | str, dict[str, Any]] = {status: problem(status) for status in (404, 422, 503)}
_BODY = {
    "description": "One JSON object a line, with the columns that the parameters name; others are ignored.",
    "required": True,
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": '{"prompt": "What is 6 times 7?", "reference": "42"}',
        }
    },
}


@router.put(
    "/datasets/{name}",
    summary="Upload a data set of references",
    response_model=DatasetInfo,
    responses={status: ERROR_RESPONSES[status] for status in (408, 413, 422, 503, 504)},
    openapi_extra={"requestBody": _BODY},
)
async def put_dataset(
    name: Name, request: Request, options: Annotated[UploadOptions, Query()], state: AppStateDep
) -> Response | DatasetInfo:
    """Upload a data set. It replaces the one of that name in one step, when all of it has arrived."""
    state.pipeline.drain.check()
    context = request_context()
    seconds = deadline_s(context.headers, state.settings)
    try:
        async with asyncio.timeout_at(context.received + seconds) as limit:
            return await _upload(name, request, options, state, context, limit)
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise DeadlineError(f"the upload was not complete within {seconds:g} s; nothing of it is kept") from exc
    except ClientDisconnect:
        state.metrics.refused(route_pattern(request.scope), "client_gone")
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _upload(
    name: str,
    request: Request,
    options: UploadOptions,
    state: AppState,
    context: RequestContext,
    limit: asyncio.Timeout,
) -> DatasetInfo:
    store, settings, caller = state.datasets, state.settings, context.caller
    writer = await asyncio.to_thread(store.begin, caller, name, options.duplicates)
    reader, digest = RowReader(options, writer, settings), blake2b(digest_size=16)

    def read(piece: bytes) -> Steps[None]:
        digest.update(piece)
        yield from reader.read(piece)
        store.check_size(writer)

    try:
        with state.memory.claim(caller) as claim:
            lines = receive_lines(context.headers, request.receive, claim, settings)
            async with aclosing(lines):  # type: ignore[type-var]
                async for piece in lines:
                    await state.executor.run(caller, read(piece))
        reader.check()
        limit.reschedule(None)  # the thread that publishes it cannot be stopped
        return await asyncio.to_thread(store.publish, writer, digest.hexdigest(), options.query_type_default)
    finally:
        asyncio.get_running_loop().run_in_executor(None, store.end, writer)


@router.get("/datasets", summary="List data sets", response_model=DatasetList, responses={503: problem(503)})
def list_datasets(state: AppStateDep) -> DatasetList:
    """The caller's data sets, with counts; their texts are not returned."""
    infos = state.datasets.infos(request_context().caller)
    return DatasetList(datasets=infos, persistent=state.datasets.is_persistent)


@router.get("/datasets/{name}", summary="Counts of a data set", response_model=DatasetInfo, responses=_ERRORS)
def get_dataset(name: Name, state: AppStateDep) -> DatasetInfo:
    """Counts of one data set: rows, prompts, and how often prompts were found and missed."""
    return state.datasets.find(request_context().caller, name).info


@router.delete("/datasets/{name}", summary="Remove a data set", status_code=204, responses=_ERRORS)
def delete_dataset(name: Name, state: AppStateDep) -> None:
    """Remove a data set."""
    state.datasets.delete(request_context().caller, name)
