"""POST /llamafactory: the reward server of LLaMA-Factory's PPO (`reward_model_type: api`).

    {"model": "model", "messages": ["<|im_start|>user\\nWhy?<|im_end|>\\n<|im_start|>assistant\\nAir.<|im_end|>"]}
    200 {"scores": [0.41]}

A text has the prompt and the response, which are told apart by the only assistant header of a known chat template.
There is no reference in it, so samples are open-ended. The client looks at no status and does not try again: a
refusal ends its run with KeyError 'scores', so requests are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import ConfigDict, Field

from reward_client.wire import MAX_LIST, ScoreReply
from reward_service.protocols.base import Call, ProtocolSpec, RouteSpec, WireModel
from reward_service.protocols.chat_templates import PromptError, clean
from reward_service.protocols.samples import Label, Sample, sample_job
from reward_service.protocols.url_options import url_options
from reward_service.scoring.job import InvalidItem, ItemLimits, Job, check_count


class LlamaFactoryRequest(WireModel):
    """A batch of texts; other keys, as `model`, are ignored."""

    model_config = ConfigDict(extra="ignore")

    messages: Annotated[list[str], Field(max_length=MAX_LIST)]
    """Prompt and response of each sample, as the tokenizer decodes them, special tokens included."""


class LlamaFactoryReply(WireModel):
    """The rewards, in the order of the request."""

    scores: list[float]
    """One reward for each text."""


def _path(index: int, _: str) -> str:
    return f"messages.{index}"


def _job(body: LlamaFactoryRequest, call: Call) -> Job:
    options = call.options or url_options(call, b"")
    check_count(len(body.messages), call.settings.max_items)
    limits = ItemLimits(call.settings)
    return sample_job(_samples(body.messages, limits), call, options, limits, _path)


def _samples(texts: list[str], limits: ItemLimits) -> Iterator[Sample | InvalidItem | None]:
    for i, text in enumerate(texts):
        yield _sample(text) if limits.texts_fit(i, [(_path(i, ""), text)]) else None


def _sample(text: str) -> Sample | InvalidItem:
    try:
        return Sample(clean(text, None), Label())
    except PromptError as exc:
        return InvalidItem("prompt", str(exc))
    except ValueError:
        return InvalidItem("response", "needs exactly one assistant marker of a known chat template")


def _reply(reply: ScoreReply, _: Job, __: Call) -> LlamaFactoryReply:
    return LlamaFactoryReply(scores=[reward for reward in reply.rewards if reward is not None])


PROTOCOL = ProtocolSpec(
    name="llamafactory",
    routes=[
        RouteSpec(
            "/llamafactory",
            "Score samples as LLaMA-Factory posts them",
            "For `reward_model: http://HOST:PORT/llamafactory` with `reward_model_type: api`.",
        )
    ],
    request_model=LlamaFactoryRequest,
    reply_model=LlamaFactoryReply,
    example={"messages": ["<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nBecause.<|im_end|>"]},
    job=_job,
    reply=_reply,
    options=url_options,
    hold_s=150,  # its client has no timeout, and any error ends the run
)
