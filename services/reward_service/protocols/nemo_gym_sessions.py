"""/nemo_gym/…: the routes of a resources server of NeMo-Gym that score nothing.

POST seed_session, close_session    there is no state; wrong options are an error
POST aggregate_metrics              statistics of verified responses, for each task and for all of them
GET  reverify_mode                  a response may be verified again
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from reward_client.wire import MAX_LIST
from reward_service.protocols.base import Call, EndpointSpec, HandlerSpec, NoBody
from reward_service.protocols.nemo_gym import ANSWER_S, HOLD_S, routes
from reward_service.protocols.url_options import url_options

_TASK, _INTERNAL = "_ng_task_index", "_ng_"
_MOST = 1e100
"""Larger numbers are left out: statistics of them could be infinite."""


class SessionRequest(BaseModel):
    """A row of the data set, or the name of a session; nothing of it is used."""

    model_config = ConfigDict(extra="allow")


class SessionReply(BaseModel):
    """There is nothing to tell."""


class AggregateRequest(BaseModel):
    """Replies of `verify`, with the task that each belongs to."""

    model_config = ConfigDict(extra="allow")

    verify_responses: Annotated[list[dict[str, Any]], Field(max_length=MAX_LIST)]


class AggregateReply(BaseModel):
    """`mean/NAME`, `max/NAME`, … of every field that is a number."""

    group_level_metrics: list[dict[str, float]]
    """One object for each task."""
    agent_metrics: dict[str, float]
    """Of all responses."""
    key_metrics: dict[str, float]
    """The means of `agent_metrics`."""


class ReverifyMode(RootModel[Literal["stateless"]]):
    """How a stored response can be verified again."""


def _open_session(_: SessionRequest, call: Call) -> SessionReply:
    url_options(call, b"")
    if call.references is not None:
        call.references()
    return SessionReply()


def _aggregate(body: AggregateRequest, _: Call) -> AggregateReply:
    tasks: dict[int, list[dict[str, Any]]] = {}
    for response in body.verify_responses:
        task = response.get(_TASK)
        tasks.setdefault(task if isinstance(task, int) else 0, []).append(response)
    overall = _statistics(body.verify_responses)
    return AggregateReply(
        group_level_metrics=[{_TASK: task, **_statistics(tasks[task])} for task in sorted(tasks)],
        agent_metrics=overall,
        key_metrics={name: value for name, value in overall.items() if name.startswith("mean/")},
    )


def _statistics(responses: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for response in responses:
        for name, value in response.items():
            is_number = isinstance(value, (int, float)) and abs(value) < _MOST
            if is_number and not name.startswith(_INTERNAL):
                values.setdefault(name, []).append(float(value))
    return {
        f"{statistic}/{name}": value
        for name, numbers in values.items()
        for statistic, value in _describe(numbers).items()
    }


def _describe(numbers: Sequence[float]) -> dict[str, float]:
    spread = stdev(numbers) if len(numbers) > 1 else 0.0
    return {
        "mean": fmean(numbers),
        "max": max(numbers),
        "min": min(numbers),
        "median": median(numbers),
        "std": spread,
    }


_NAME = "nemo_gym"
PROTOCOLS: Sequence[EndpointSpec[Any]] = [
    HandlerSpec(
        name=_NAME,
        routes=[*routes("seed_session", "Begin a session"), *routes("close_session", "End a session")],
        request_model=SessionRequest,
        reply_model=SessionReply,
        handle=_open_session,
        hold_s=HOLD_S,
        answer_s=ANSWER_S,
    ),
    HandlerSpec(
        name=_NAME,
        routes=routes("aggregate_metrics", "Statistics of verified responses"),
        request_model=AggregateRequest,
        reply_model=AggregateReply,
        handle=_aggregate,
        hold_s=HOLD_S,
        answer_s=ANSWER_S,
    ),
    HandlerSpec(
        name=_NAME,
        routes=routes("reverify_mode", "Whether a stored response can be verified again", "GET"),
        request_model=NoBody,
        reply_model=ReverifyMode,
        handle=lambda _, __: ReverifyMode("stateless"),
        hold_s=HOLD_S,
        answer_s=ANSWER_S,
    ),
]
