"""POST /classify, POST /pooling, GET /v1/models: vLLM's server of a reward model, and SGLang's /classify.

    {"model": "…", "input": text or [text], "use_activation": false}     or "messages", which end with the response
    200 {"data": [{"index": 0, "label": "LABEL_0", "probs": [3.41], "num_classes": 1}], …}       /classify
    200 {"data": [{"index": 0, "object": "pooling", "data": [3.41]}], …}                         /pooling
    {"text": text}
    200 {"embedding": [3.41], "meta_info": {…}}                                         /classify, as SGLang's

`probs` has the raw logit, as vLLM returns it with `use_activation: false`; `true` is refused. SGLang also has
`/v1/classify`, with a softmax, which is 1 for every text of a model with one label: here it is `/classify`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from reward_client.wire import MAX_LIST
from reward_service.errors import InvalidRequestError
from reward_service.models.protocols import RawText
from reward_service.protocols.base import Call, GoldSpec, HandlerSpec, NoBody, RouteSpec, WireModel
from reward_service.protocols.reward_server.inputs import (
    IDS_REFUSED,
    Entry,
    Texts,
    check_model,
    conversation,
    other_model,
)
from reward_service.scoring.gold_only import GoldJob, GoldReply

WHOLE_MODEL = 2**31
"""Maximum tokens of a text that is truncated to what the model reads."""
HOLD_S, ANSWER_S = 150.0, 170.0
"""verl's client ends the run after one 429, and waits for a reply without a timeout."""


_EXAMPLE = {
    "messages": [
        {"role": "user", "content": "Why is the sky blue?"},
        {"role": "assistant", "content": "Air scatters blue light most."},
    ]
}


class PoolingRequest(WireModel):
    """What both routes read; unknown keys are ignored, because clients send options of other tasks."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str | None = None
    """Not needed; a model that is not the served one is named in the reply's `notices`."""
    input: list[Any] | Any = None
    """A text, or a list of them."""
    messages: Annotated[list[dict[str, Any]], Field(max_length=MAX_LIST)] | None = None
    """Instead of `input`: a conversation that ends with the response."""
    add_special_tokens: bool = True
    """Whether the tokenizer adds its own to `input`; not used for `messages`."""
    truncate_prompt_tokens: Annotated[int, Field(ge=-1)] | None = None
    """Tokens to truncate `input` to, -1 for as many as the model reads. When null, a longer text is an error."""
    truncation_side: Literal["left", "right"] | None = None
    """End of a text that is cut."""
    use_activation: Literal[False] | None = None
    """Scores are raw logits."""
    activation: Literal[False] | None = None
    """As `use_activation`, in other releases."""
    softmax: Literal[False] | None = None
    """As `use_activation`, in other releases."""
    encoding_format: Literal["float"] = "float"
    """Numbers, not base64."""
    chat_template: None = None
    """The gold model's own is used."""
    add_generation_prompt: Literal[False] = False
    """A conversation ends with the response."""
    continue_final_message: Literal[False] = False
    """The response is complete."""


class ClassifyRequest(PoolingRequest):
    """vLLM's request, or SGLang's, which has the field `text`."""

    text: list[Any] | Any = None
    """Instead of `input`: a text, or a list of them, for a reply in SGLang's format."""
    input_ids: Any = None
    """Refused: this service tokenizes texts for its gold model."""


class Usage(WireModel):
    """Tokens that the gold model read."""

    prompt_tokens: int
    """Tokens of all texts."""
    total_tokens: int
    """The same."""
    completion_tokens: int = 0
    """Always 0: nothing is generated."""


class Classification(WireModel):
    """The score of one text."""

    index: int
    """Of the text in the request."""
    label: str = "LABEL_0"
    """Always `LABEL_0`."""
    probs: list[float]
    """The raw logit."""
    num_classes: int = 1
    """Always 1."""


class Pooled(WireModel):
    """The score of one text."""

    index: int
    """Of the text in the request."""
    object: str = "pooling"
    """Always `pooling`."""
    data: list[float]
    """The raw logit."""


class ListReply(WireModel):
    """What replies with a list of results have in common."""

    id: str
    """Of the request."""
    object: str = "list"
    """Always `list`."""
    created: int
    """Seconds since 1970."""
    model: str
    """Id of the gold model."""
    usage: Usage
    """Tokens of the request."""
    notices: list[str]
    """What a reader of the scores must know."""


class ClassifyReply(ListReply):
    """Scores, in the order of the texts."""

    data: list[Classification]
    """One for each text."""


class PoolingReply(ListReply):
    """Scores, in the order of the texts."""

    data: list[Pooled]
    """One for each text."""


class NativeResult(WireModel):
    """SGLang's result for one text."""

    embedding: list[float]
    """The raw logit."""
    meta_info: dict[str, Any]
    """Tokens of the text, as `prompt_tokens`."""


class ClassifyReplies(RootModel[ClassifyReply | NativeResult | list[NativeResult]]):
    """vLLM's reply for `input` and `messages`; SGLang's for `text`."""


class Model(WireModel):
    """A model that is served."""

    id: str
    """Id of the gold model."""
    object: str = "model"
    """Always `model`."""
    created: int = 0
    """Always 0."""
    owned_by: str = "glassbox"
    """Always `glassbox`."""


class Models(WireModel):
    """The gold model, if there is one."""

    object: str = "list"
    """Always `list`."""
    data: list[Model]
    """None, or the gold model."""


def common(kind: str, reply: GoldReply, posted_model: str | None) -> dict[str, Any]:
    """The fields of a ListReply."""
    n_tokens = sum(reply.n_tokens)
    flags = sorted({flag for one in reply.flags for flag in one})
    return {
        "id": f"{kind}-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": reply.model,
        "usage": Usage(prompt_tokens=n_tokens, total_tokens=n_tokens),
        "notices": [*reply.notices, *other_model(posted_model, reply.model), *flags],
    }


def gold_job(body: PoolingRequest, call: Call, reply: Callable[[GoldReply], BaseModel]) -> GoldJob:
    """The work of `input` or `messages`. Raises InvalidRequestError unless there is one of them; TooLargeError."""
    check_model(body.model, call)
    if (body.input is None) == (body.messages is None):
        raise InvalidRequestError.in_field("input", "or messages is needed, and not both")
    if body.messages is not None:
        return GoldJob(conversation(body.messages, call), lambda _, __: "messages", reply)
    texts = Texts.of("input", body.input, call)
    return GoldJob(_raw_texts(texts, body, call), texts.path, reply)


def _raw_texts(texts: Texts, body: PoolingRequest, call: Call) -> Iterable[Entry]:
    most = body.truncate_prompt_tokens
    most = WHOLE_MODEL if most == -1 else most
    keeps_end = body.truncation_side != "right"
    return texts.entries(call, lambda text: RawText(text, body.add_special_tokens, most, keeps_end))


def _classify_job(body: ClassifyRequest, call: Call) -> GoldJob:
    if body.input_ids is not None:
        raise InvalidRequestError.in_field("input_ids", IDS_REFUSED)
    if body.text is not None:
        return _native_job(body, call)

    def reply(scored: GoldReply) -> BaseModel:
        data = [Classification(index=i, probs=[score]) for i, score in enumerate(scored.scores)]
        return ClassifyReplies(ClassifyReply(**common("classify", scored, body.model), data=data))

    return gold_job(body, call, reply)


def _native_job(body: ClassifyRequest, call: Call) -> GoldJob:
    if body.input is not None or body.messages is not None:
        raise InvalidRequestError.in_field("text", "cannot be sent with input or messages")
    texts = Texts.of("text", body.text, call)

    def reply(scored: GoldReply) -> BaseModel:
        results = [
            NativeResult(embedding=[score], meta_info={"id": uuid.uuid4().hex, "prompt_tokens": n_tokens})
            for score, n_tokens in zip(scored.scores, scored.n_tokens, strict=True)
        ]
        return ClassifyReplies(results if texts.is_list else results[0])

    return GoldJob(texts.entries(call, RawText), texts.path, reply)


def _pooling_job(body: PoolingRequest, call: Call) -> GoldJob:
    def reply(scored: GoldReply) -> BaseModel:
        data = [Pooled(index=i, data=[score]) for i, score in enumerate(scored.scores)]
        return PoolingReply(**common("pool", scored, body.model), data=data)

    return gold_job(body, call, reply)


def _models(_: NoBody, call: Call) -> Models:
    return Models(data=[Model(id=gold) for gold in call.settings.golds[:1]])


PROTOCOLS = (
    GoldSpec(
        name="vllm",
        routes=[
            RouteSpec(path, "Gold scores, as vLLM and SGLang return those of a reward model")
            for path in ("/classify", "/v1/classify")
        ],
        request_model=ClassifyRequest,
        reply_model=ClassifyReplies,
        example=_EXAMPLE,
        job=_classify_job,
        hold_s=HOLD_S,
        answer_s=ANSWER_S,
    ),
    GoldSpec(
        name="vllm",
        routes=[RouteSpec("/pooling", "Gold scores, as vLLM returns those of a reward model")],
        request_model=PoolingRequest,
        reply_model=PoolingReply,
        example=_EXAMPLE,
        job=_pooling_job,
        hold_s=HOLD_S,
        answer_s=ANSWER_S,
    ),
    HandlerSpec(
        name="vllm",
        routes=[RouteSpec("/v1/models", "The gold model, for clients that list models", method="GET")],
        request_model=NoBody,
        reply_model=Models,
        handle=_models,
    ),
)
