"""POST /slime: the remote reward of slime and of its fork miles, one sample a request.

    {"prompt": text or messages, "response": text with its end token, "label": reference or null}
    200 0.41                                                 the reward is the reply
    200 {"score": 0.41, "length_incentive": 0.62, …}         ?keyed=1, for `--reward-key score`

The URL has the scoring options. An item with a label is closed-ended, unless the label or `query_type_default`
differs, because data sets of these frameworks have a single column for the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ConfigDict, RootModel

from reward_client.wire import QueryType, ScoreReply
from reward_service.protocols.base import Body, Call, ProtocolSpec, RouteSpec, ScoringOptions, WireModel
from reward_service.protocols.chat_templates import CleanExchange, PromptError, clean
from reward_service.protocols.samples import (
    Sample,
    content_texts,
    label_texts,
    read_label,
    read_messages,
    sample_job,
    sample_path,
)
from reward_service.protocols.url_options import url_flag, url_options
from reward_service.scoring.job import InvalidItem, ItemLimits, Job

KEYED = "keyed"


class SlimeRequest(WireModel):
    """What slime and miles post; unknown keys are ignored, because later versions may add some."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    prompt: str | list[dict[str, Any]]
    """The rendered prompt, the user's text, or messages, of which `role` and `content` are read."""
    response: str
    """The policy's text, as the tokenizer decodes it, special tokens included."""
    label: Any = None
    """Null, a reference (text, a number, or a list of them, of which the best counts), or
    `{"reference", "query_type", "id"}`, object or JSON."""


class SlimeReply(RootModel[float | dict[str, float]]):
    """The reward, or with `?keyed=1` an object of it (`score`) and of the features that apply."""


_text_path = sample_path("prompt", "response", "label")


def _path(index: int, name: str) -> str:
    return name if name.startswith("prompt.") else _text_path(index, name)


def _options(call: Call, body: Body) -> ScoringOptions:
    url_flag(call, KEYED)
    return url_options(call, body, own=(KEYED,), query_type_default=QueryType.CLOSED_ENDED)


def _job(body: SlimeRequest, call: Call) -> Job:
    options = call.options or _options(call, b"")
    limits = ItemLimits(call.settings)
    return sample_job(_samples(body, limits), call, options, limits, _path)


def _samples(body: SlimeRequest, limits: ItemLimits) -> Iterator[Sample | InvalidItem | None]:
    yield _sample(body) if _fits(body, limits) else None


def _fits(body: SlimeRequest, limits: ItemLimits) -> bool:
    """Whether the posted texts are within the limits, those of messages one by one and together."""
    texts = [("response", body.response), *label_texts("label", body.label)]
    if isinstance(body.prompt, str):
        return limits.texts_fit(0, [("prompt", body.prompt), *texts])
    if not limits.fits(0, "prompt", len(body.prompt), limits.settings.max_messages, "messages"):
        return False
    return limits.texts_fit(0, [*content_texts("prompt", body.prompt), *texts])


def _sample(body: SlimeRequest) -> Sample | InvalidItem:
    try:
        exchange = _exchange(body)
    except PromptError as exc:
        return InvalidItem("prompt", str(exc))
    label = read_label(body.label)
    return label if isinstance(label, InvalidItem) else Sample(exchange, label)


def _exchange(body: SlimeRequest) -> CleanExchange:
    if isinstance(body.prompt, str):
        return clean(body.prompt + body.response, body.prompt)
    cleaned = clean(body.response, "")
    return CleanExchange(read_messages(body.prompt), cleaned.response, cleaned.flags)


def _reply(reply: ScoreReply, _: Job, call: Call) -> SlimeReply:
    result = reply.results[0]
    assert result.reward is not None  # noqa: S101 - an item without a reward has failed the request
    if not url_flag(call, KEYED):
        return SlimeReply(result.reward)
    return SlimeReply(result.numbers() | {"score": result.reward})


_SUMMARY = "Score a sample as slime and miles post it"
_KEYED_PARAMETER = {
    "name": KEYED,
    "in": "query",
    "required": False,
    "description": "Reply with an object: the reward as `score`, and the features that apply.",
    "schema": {"type": "boolean", "default": False},
}
PROTOCOL = ProtocolSpec(
    name="slime",
    routes=[
        RouteSpec(
            "/slime", _SUMMARY, "For `--rm-type remote_rm --rm-url http://HOST:PORT/slime`.", [_KEYED_PARAMETER]
        ),
        RouteSpec(
            "/r/{run}/slime", _SUMMARY, "The same, with rewards attributed to a training run.", [_KEYED_PARAMETER]
        ),
    ],
    request_model=SlimeRequest,
    reply_model=SlimeReply,
    example={"prompt": "What is 6 times 7?", "response": "It is 42.", "label": "42"},
    job=_job,
    reply=_reply,
    options=_options,
    hold_s=100,  # slime tries ten times with 64 connections; miles ends the run after one refusal
    answer_s=115,  # slime's client times out after 120 s
)
