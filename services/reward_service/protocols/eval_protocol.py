"""POST /eval_protocol: a remote reward function of eval-protocol (`RewardFunction(mode="remote", endpoint=…)`).

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}], "ground_truth": "…",
     "query_type": "closed_ended"}
    200 {"score": 0.41, "is_score_valid": true, "reason": "length_incentive 0.62, …",
         "metrics": {"repetition_penalty": {"score": 0.95, "is_score_valid": true, "reason": "…"}}}

The response is the last message. The client sends its keyword arguments beside the messages, and the messages
before the response as `ground_truth` when it has none. It ignores `is_score_valid`, so a failure is an error
status. Metrics must be in [0, 1]: they are the features whose range is, and `reason` has all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from reward_client.wire import AnyQueryType, ChatMessage, ScalarText, ScoreReply
from reward_client.wire.requests import MAX_MESSAGES
from reward_client.wire.texts import Content
from reward_service.features.recipe import Recipe
from reward_service.protocols.base import Call, ProtocolSpec, RouteSpec, WireModel
from reward_service.protocols.chat_templates import CleanExchange
from reward_service.protocols.samples import Sample, label_texts, read_label, sample_job
from reward_service.protocols.url_options import label_options
from reward_service.scoring.job import InvalidItem, ItemLimits, Job


class Message(WireModel):
    """A message; other keys, as those of tool calls, are ignored."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Who wrote the message."""
    content: Content | None = None
    """Null for a message that only calls tools."""


class EvalProtocolRequest(WireModel):
    """One conversation; other keyword arguments of the reward function are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    """The conversation; the last message is the response."""
    ground_truth: Any = None
    """A reference, or an object with `reference` and `query_type`; a list of messages is no reference."""
    query_type: AnyQueryType | None = None
    """Kind of answer that the prompt requires."""
    id: ScalarText | None = None
    """Name of the row, for errors."""


class Metric(WireModel):
    """A feature."""

    score: float
    """The feature's value."""
    is_score_valid: bool = True
    """Whether there is a value: always."""
    reason: str
    """The same, as it is written for people."""


class EvalProtocolReply(WireModel):
    """The reward, and the features behind it."""

    score: float
    """The reward."""
    is_score_valid: bool = True
    """Whether there is a reward: always."""
    reason: str
    """How the reward is composed."""
    metrics: dict[str, Metric]
    """Features that apply to the response, by name."""


_FIELDS = {"prompt": "messages", "response": "messages", "reference": "ground_truth"}


def _path(_: int, name: str) -> str:
    own, __, rest = name.partition(".")
    return f"ground_truth.{rest}".rstrip(".") if own == "label" else _FIELDS.get(own, name)


def _job(body: EvalProtocolRequest, call: Call) -> Job:
    options = call.options or label_options(call, b"")
    limits = ItemLimits(call.settings)
    return sample_job(_samples(body, limits), call, options, limits, _path)


def _samples(body: EvalProtocolRequest, limits: ItemLimits) -> Iterator[Sample | InvalidItem | None]:
    texts = [(f"messages.{i}.content", message.content or "") for i, message in enumerate(body.messages)]
    fits = limits.texts_fit(0, [*texts, *label_texts("ground_truth", body.ground_truth)])
    yield _sample(body) if fits else None


def _sample(body: EvalProtocolRequest) -> Sample | InvalidItem:
    *before, last = [ChatMessage(role=one.role, content=one.content or "") for one in body.messages]
    if last.role != "assistant":
        return InvalidItem("response", "must end with a message of the assistant")
    label = read_label(None if _are_messages(body.ground_truth) else body.ground_truth)
    if isinstance(label, InvalidItem):
        return label
    given = {name: value for name in ("query_type", "id") if (value := getattr(body, name)) is not None}
    return Sample(CleanExchange(tuple(before), last.content, ()), label.model_copy(update=given))


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and "role" in one for one in value)


def _reply(reply: ScoreReply, job: Job, _: Call) -> EvalProtocolReply:
    (result,) = reply.results
    (score,) = (reward for reward in reply.rewards if reward is not None)
    values = result.numbers()
    reasons = {name: f"{name} {value:.6g}" for name, value in values.items()}
    return EvalProtocolReply(
        score=score,
        reason=", ".join([*reasons.values(), *result.flags]),
        metrics={
            name: Metric(score=values[name], reason=reasons[name])
            for name in _metrics(job.recipe)
            if name in values
        },
    )


def _metrics(recipe: Recipe) -> list[str]:
    """Features that are in [0, 1] for every item of `recipe`."""
    bounds = {feature.name: feature.bounds(recipe) for feature in recipe.reported}
    return [name for name, (low, high) in bounds.items() if low >= 0 and high <= 1]


PROTOCOL = ProtocolSpec(
    name="eval_protocol",
    routes=[
        RouteSpec(
            "/eval_protocol",
            "Score a conversation as eval-protocol posts it",
            'For `RewardFunction(mode="remote", endpoint="http://HOST:PORT/eval_protocol")`. A `ground_truth` '
            "makes it closed-ended, unless `query_type`, or `query_type_default` in the URL, says otherwise.",
        )
    ],
    request_model=EvalProtocolRequest,
    reply_model=EvalProtocolReply,
    example={
        "messages": [
            {"role": "user", "content": "What is 6 times 7?"},
            {"role": "assistant", "content": "It is 42."},
        ],
        "ground_truth": "42",
    },
    job=_job,
    reply=_reply,
    options=label_options,
    hold_s=150,  # its client has no timeout, and raises for any error
)
