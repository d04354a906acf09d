"""/nemo_gym/…: the routes of a resources server of NeMo-Gym that score nothing.

POST seed_session, close_session    there is no state; wrong options are an error
POST aggregate_metrics              statistics of verified responses, for each task and for all of them
GET  reverify_mode                  a response may be verified again
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel

from reward_client.wire import MAX_LIST, FieldError
from reward_service.batching import Steps
from reward_service.errors import InvalidRequestError, TooLargeError
from reward_service.protocols.base import Call, EndpointSpec, HandlerSpec, LargeReply, NoBody, WireModel
from reward_service.protocols.nemo_gym import ANSWER_S, HOLD_S, routes
from reward_service.protocols.url_options import label_options
from reward_service.settings import MAX_METRIC_FIELDS

_TASK, _INTERNAL = "_ng_task_index", "_ng_"
_MOST = 1e100
"""Larger numbers are left out: statistics of them could be infinite."""
_MOST_BYTES = 16 * 1024 * 1024
"""Of a reply: enough for `MAX_METRIC_FIELDS` with names of 99 characters."""
_STATISTICS, _NUMBER_BYTES = 6, 40
"""Statistics of a field, the mean of all responses twice, and bytes of a number and the rest of its name."""
_MADE_BYTES = 4
"""Bytes that are held for a byte of a reply while it is made."""
_LARGEST_TASK = 2**53
"""Readers of JSON may round whole numbers from this one."""


class SessionRequest(WireModel):
    """A row of the data set, or the name of a session; nothing of it is used."""

    model_config = ConfigDict(extra="allow")


class SessionReply(WireModel):
    """There is nothing to tell."""


class AggregateRequest(WireModel):
    """Replies of `verify`, with the task that each belongs to."""

    model_config = ConfigDict(extra="allow")

    verify_responses: Annotated[list[dict[str, Any]], Field(max_length=MAX_LIST)]
    """Each is a reply of `verify`, with `_ng_task_index`."""


class AggregateReply(WireModel):
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
    label_options(call, b"")
    if call.references is not None:
        call.references()
    return SessionReply()


Numbers = dict[str, list[float]]
"""The numbers of several responses, by field."""


def _aggregate(body: AggregateRequest, _: Call) -> Steps[LargeReply]:
    overall: Numbers = {}
    tasks: dict[int, Numbers] = {}
    n_fields = n_bytes = 0
    for index, response in enumerate(body.verify_responses):
        task = tasks.setdefault(_task(index, response), {})
        for name, number in _numbers(response):
            for values in (task, overall):
                if name not in values:
                    values[name] = []
                    n_fields += 1
                    n_bytes += _STATISTICS * (len(name.encode()) + _NUMBER_BYTES)
                values[name].append(number)
        _check_size(n_fields, n_bytes)
        yield
    return LargeReply(_MADE_BYTES * n_bytes, _aggregated(tasks, overall))


def _check_size(n_fields: int, n_bytes: int) -> None:
    """Raise TooLargeError for a reply with too many fields or bytes."""
    if n_fields > MAX_METRIC_FIELDS or n_bytes > _MOST_BYTES:
        bound = f"{MAX_METRIC_FIELDS} different numbers by task and field, or a reply of {_MOST_BYTES} bytes"
        raise TooLargeError.in_field("verify_responses", f"has more than {bound}: send fewer tasks at a time")


def _aggregated(tasks: Mapping[int, Numbers], overall: Numbers) -> Steps[AggregateReply]:
    groups = []
    for number, values in sorted(tasks.items()):
        statistics = yield from _statistics(values)
        groups.append({_TASK: number, **statistics})
    of_all = yield from _statistics(overall)
    means = {name: value for name, value in of_all.items() if name.startswith("mean/")}
    return AggregateReply.model_construct(group_level_metrics=groups, agent_metrics=of_all, key_metrics=means)


def _task(index: int, response: Mapping[str, Any]) -> int:
    """The task of response `index`, 0 for one without. Raises InvalidRequestError."""
    task = response.get(_TASK)
    if task is None:
        return 0
    if isinstance(task, int) and not isinstance(task, bool) and abs(task) < _LARGEST_TASK:
        return task
    message = "must be a whole number of less than 2**53"
    error = FieldError(item=index, field=f"verify_responses.{index}.{_TASK}", message=message)
    raise InvalidRequestError("a response has no valid task", [error])


def _numbers(response: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in response.items():
        is_number = isinstance(value, (int, float)) and abs(value) < _MOST
        if is_number and not name.startswith(_INTERNAL):
            yield name, float(value)


def _statistics(values: Numbers) -> Steps[dict[str, float]]:
    statistics: dict[str, float] = {}
    for name, numbers in values.items():
        statistics |= {f"{statistic}/{name}": value for statistic, value in _describe(numbers).items()}
        yield
    return statistics


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
        example={},
        handle=_open_session,
        hold_s=HOLD_S,
        answer_s=ANSWER_S,
    ),
    HandlerSpec(
        name=_NAME,
        routes=routes("aggregate_metrics", "Statistics of verified responses"),
        request_model=AggregateRequest,
        reply_model=AggregateReply,
        example={"verify_responses": [{"_ng_task_index": 0, "reward": 0.5}, {"_ng_task_index": 0, "reward": 1.0}]},
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
