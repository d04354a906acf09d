"""POST /xtuner: the reward of xtuner's `NativeJudger(reward_handler="http://…")`.

    {"response": "…", "label": "…", "extra_info": {}}
    200 {"score": 0.41, "length_incentive": 0.62, …}

The client sends no prompt. So the recipe must not depend on it for the sample's query type, as `rer` does not for
closed-ended samples; or the label is an object with the prompt: `{"prompt": "…", "reference": "…"}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict

from reward_client.wire import ChatMessage, ScoreReply
from reward_client.wire.requests import Prompt
from reward_service.protocols.base import Call, ProtocolSpec, RouteSpec, ScoringOptions, WireModel
from reward_service.protocols.chat_templates import PromptError, clean
from reward_service.protocols.samples import Label, Sample, entries, label_texts, read_label_as, sample_path
from reward_service.protocols.url_options import label_options
from reward_service.scoring.job import InvalidItem, ItemLimits, Job, ScorableItem, prompt_texts

_NO_PROMPT = (ChatMessage(role="user", content="the client sends no prompt"),)
"""In an item until its query type is known."""


class XtunerRequest(WireModel):
    """One response; other keys, as `extra_info`, are ignored: it is the same for all samples."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    response: str
    """The policy's text, as the tokenizer decodes it."""
    label: Any = None
    """A reference, or an object with any of `prompt`, `reference`, `query_type` and `id`, or its JSON."""


class XtunerLabel(Label):
    """A label that may have the prompt, as text or messages."""

    prompt: Prompt | None = None
    """The user's text, or messages, for features that read the prompt."""


class XtunerReply(WireModel):
    """The reward, and by name the features that apply to the sample, as numbers."""

    model_config = ConfigDict(extra="allow")

    score: float
    """The reward."""


_path = sample_path("label.prompt", "response", "label")


def _job(body: XtunerRequest, call: Call) -> Job:
    options = call.options or label_options(call, b"")
    return Job(entries=_entries(body, options, call), recipe=options.recipe, gold=options.gold, path=_path)


def _entries(body: XtunerRequest, options: ScoringOptions, call: Call) -> Iterator[ScorableItem | InvalidItem]:
    limits = ItemLimits(call.settings)
    limits.texts_fit(0, label_texts("label", body.label))
    limits.check()
    label = read_label_as(XtunerLabel, body.label)
    sample = label if isinstance(label, InvalidItem) else _sample(body.response, label, limits)
    for entry in entries([sample], options.query_type_default, limits, _path):
        if isinstance(entry, InvalidItem) or isinstance(label, InvalidItem) or label.prompt is not None:
            yield entry
        else:
            yield _without_prompt(entry, options)


def _sample(response: str, label: XtunerLabel, limits: ItemLimits) -> Sample | InvalidItem | None:
    prompt = label.prompt
    if not limits.texts_fit(0, [("response", response), *prompt_texts("label.prompt", prompt or "")]):
        return None
    rendered = prompt if isinstance(prompt, str) else ""
    try:
        exchange = clean(rendered + response, rendered)
    except PromptError as exc:
        return InvalidItem("prompt", str(exc))
    if not isinstance(prompt, str):
        exchange = replace(exchange, messages=_NO_PROMPT if prompt is None else tuple(prompt))
    return Sample(exchange, label)


def _without_prompt(entry: ScorableItem, options: ScoringOptions) -> ScorableItem | InvalidItem:
    recipe = options.recipe
    if options.gold or recipe.needs_gold or recipe.needs_prompt(entry.query_type):
        of_branch = "" if recipe.needs_gold else f", for {entry.query_type} samples,"
        needs = "gold" if options.gold else f"the recipe {recipe.name!r}{of_branch}"
        message = f"{needs} needs the prompt: send a label {{'prompt', 'reference'}} or choose another recipe"
        return InvalidItem("prompt", message, entry.id)
    return replace(entry, messages=())


def _reply(reply: ScoreReply, _: Job, __: Call) -> XtunerReply:
    (result,) = reply.results
    return XtunerReply.model_validate(result.numbers() | {"score": result.reward})


PROTOCOL = ProtocolSpec(
    name="xtuner",
    routes=[
        RouteSpec(
            "/xtuner",
            "Score a response as xtuner posts it",
            'For `NativeJudger(reward_handler="http://HOST:PORT/xtuner?recipe=rer")`. A label makes the sample '
            "closed-ended, unless it, or `query_type_default` in the URL, says otherwise.",
        )
    ],
    request_model=XtunerRequest,
    reply_model=XtunerReply,
    example={"response": "It is 42.", "label": {"prompt": "What is 6 times 7?", "reference": "42"}},
    job=_job,
    reply=_reply,
    options=label_options,
    hold_s=24,
    answer_s=28,  # its client times out after 30 s, and any error ends the run
)
