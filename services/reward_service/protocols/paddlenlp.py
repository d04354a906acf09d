"""POST /paddlenlp: the reward server of PaddleNLP's PPO and GRPO (`reward_server`).

    {"src": ["…prompt…"], "tgt": ["…reference…"], "response": ["…"]}
    200 {"score": [0.41]}

The texts are decoded with special tokens. The client takes any failure for rewards of 0 and goes on, which no
reply can prevent; so requests are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import ConfigDict, Field

from reward_client.wire import MAX_LIST, ScoreReply
from reward_service.protocols.base import Call, ProtocolSpec, RouteSpec, WireModel, parallel
from reward_service.protocols.chat_templates import PromptError, clean, clean_reference
from reward_service.protocols.samples import Sample, read_label, sample_job, sample_path
from reward_service.protocols.url_options import label_options
from reward_service.scoring.job import InvalidItem, ItemLimits, Job, check_count

Texts = Annotated[list[str], Field(max_length=MAX_LIST)]


class PaddleNlpRequest(WireModel):
    """Parallel lists; other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    src: Texts
    """The prompts."""
    tgt: Texts | None = None
    """The references; "" for none."""
    response: Texts
    """The policy's texts."""


class PaddleNlpReply(WireModel):
    """The rewards, in the order of the request."""

    score: list[float]
    """One reward for each response."""


Row = tuple[str, str | None, str]
_path = sample_path("src.{}", "response.{}", "tgt.{}")


def _job(body: PaddleNlpRequest, call: Call) -> Job:
    options = call.options or label_options(call, b"")
    n = len(body.src)
    check_count(n, call.settings.max_items)
    references, responses = parallel("tgt", body.tgt, n, "src"), parallel("response", body.response, n, "src")
    rows = zip(body.src, references, responses, strict=True)
    limits = ItemLimits(call.settings)
    return sample_job(_samples(rows, limits), call, options, limits, _path)


def _samples(rows: Iterable[Row], limits: ItemLimits) -> Iterator[Sample | InvalidItem | None]:
    for i, row in enumerate(rows):
        posted = zip(("src", "tgt", "response"), row, strict=True)
        fits = limits.texts_fit(i, [(f"{name}.{i}", text) for name, text in posted if text is not None])
        yield _sample(*row) if fits else None


def _sample(prompt: str, reference: str | None, response: str) -> Sample | InvalidItem:
    try:
        label = read_label(reference and clean_reference(reference, prompt))
        return label if isinstance(label, InvalidItem) else Sample(clean(prompt + response, prompt), label)
    except PromptError as exc:
        return InvalidItem("prompt", str(exc))


def _reply(reply: ScoreReply, _: Job, __: Call) -> PaddleNlpReply:
    return PaddleNlpReply(score=[reward for reward in reply.rewards if reward is not None])


PROTOCOL = ProtocolSpec(
    name="paddlenlp",
    routes=[
        RouteSpec(
            "/paddlenlp",
            "Score samples as PaddleNLP posts them",
            "For `reward_server: http://HOST:PORT/paddlenlp`. A `tgt` makes its sample closed-ended, unless "
            "the URL has another `query_type_default`.",
        )
    ],
    request_model=PaddleNlpRequest,
    reply_model=PaddleNlpReply,
    example={"src": ["What is 6 times 7?"], "tgt": ["42"], "response": ["It is 42."]},
    job=_job,
    reply=_reply,
    options=label_options,
    hold_s=150,  # its client has no timeout, and takes any failure for rewards of 0
)
