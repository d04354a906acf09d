"""POST /get_reward: OpenRLHF's protocol, from its one-sample requests of today to the batches of older releases.

    {"query": [prompt + response], "prompts": [prompt], "labels": [label]}
    200 {"rewards": [0.41], "scores": [0.08], "extra_logs": {"length_incentive": [0.62], …}, "notices": […]}

The URL has the scoring options (`label_options`), because the body has no fields for them. A sample with a
reference is closed-ended, unless its label or `query_type_default` says otherwise. `scores` are rewards mapped
from the recipe's range to [0, 1] and clipped; OpenRLHF filters by them. `extra_logs` has the same keys for every
request to one URL, all floats, because OpenRLHF reads the keys of one sample and expects them of all.
Requests are held, because this client ends the run after a few refusals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from reward_client.wire import MAX_LIST, ItemResult, QueryType, ScoreReply
from reward_service.protocols.base import Call, ProtocolSpec, RouteSpec, WireModel, as_list, parallel
from reward_service.protocols.chat_templates import PromptError, clean
from reward_service.protocols.samples import Sample, read_label, sample_job, sample_path
from reward_service.protocols.url_options import label_options
from reward_service.scoring.job import InvalidItem, ItemLimits, Job, check_count


class OpenRlhfRequest(WireModel):
    """What OpenRLHF 0.5 to 0.11 posts; unknown keys are ignored, because later releases may add some."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    query: Annotated[list[str], Field(max_length=MAX_LIST)] | str
    """Prompt and response, as the tokenizer decodes them, special tokens included."""
    prompts: Annotated[list[str], Field(max_length=MAX_LIST)] | str | None = None
    """The rendered prompts, whole."""
    labels: Annotated[list[Any], Field(max_length=MAX_LIST)] | Any = None
    """Per sample: null, a reference (text, a number, or a list of them, of which the best counts), or
    `{"reference", "query_type", "id"}`, object or JSON."""


class OpenRlhfReply(WireModel):
    """Parallel lists, in the order of the request."""

    rewards: list[float]
    """One for each sample."""
    scores: list[float] = Field(description="rewards mapped to [0, 1] by the recipe's range, clipped")
    extra_logs: dict[str, list[float]]
    """Features and counts by name, one value for each sample, which OpenRLHF logs."""
    flags: list[list[str]] = Field(default_factory=list)
    """Properties of each sample's text, and changes to it."""
    notices: list[str] = Field(default_factory=list)
    """What a reader of the rewards must know."""


# Request ------------------------------------------------------------------------------------------------------

Row = tuple[str, str | None, Any]
"""Query, prompt and label of a sample."""
_path = sample_path("prompts.{}", "query.{}", "labels.{}")


def _job(body: OpenRlhfRequest, call: Call) -> Job:
    options = call.options or label_options(call, b"")
    limits = ItemLimits(call.settings)
    return sample_job(_samples(_rows(body, call.settings.max_items), limits), call, options, limits, _path)


def _rows(body: OpenRlhfRequest, max_items: int) -> Iterable[Row]:
    queries = as_list(body.query)
    check_count(len(queries), max_items)
    prompts = parallel("prompts", body.prompts, len(queries), "query")
    labels = parallel("labels", body.labels, len(queries), "query")
    return zip(queries, prompts, labels, strict=True)


def _samples(rows: Iterable[Row], limits: ItemLimits) -> Iterator[Sample | InvalidItem | None]:
    for i, row in enumerate(rows):
        posted = zip(("query", "prompts", "labels"), row, strict=True)
        fits = limits.texts_fit(i, [(f"{name}.{i}", text) for name, text in posted if isinstance(text, str)])
        yield _sample(*row) if fits else None


def _sample(query: str, prompt: str | None, label: Any) -> Sample | InvalidItem:
    try:
        exchange = clean(query, prompt)
    except PromptError as exc:
        return InvalidItem(field="prompt", message=str(exc))
    except ValueError as exc:
        return InvalidItem(field="response", message=str(exc))
    found = read_label(label)
    return found if isinstance(found, InvalidItem) else Sample(exchange, found)


# Reply --------------------------------------------------------------------------------------------------------


def _reply(reply: ScoreReply, job: Job, _: Call) -> OpenRlhfReply:
    if not reply.results:
        return OpenRlhfReply(rewards=[], scores=[], extra_logs={})
    low, high = job.recipe.bounds()
    rewards = [result.reward for result in reply.results if result.reward is not None]
    logs = [_logs(result, job) for result in reply.results]
    return OpenRlhfReply(
        rewards=rewards,
        scores=[min(1.0, max(0.0, (reward - low) / (high - low))) for reward in rewards],
        extra_logs={key: [log[key] for log in logs] for key in logs[0]},
        flags=[result.flags for result in reply.results],
        notices=reply.notices,
    )


def _logs(result: ItemResult, job: Job) -> dict[str, float]:
    """Floats under names that OpenRLHF does not use itself. An empty response logs relevance 0."""
    logs = job.recipe.logs(result.features) | {
        "closed_ended": float(result.query_type is QueryType.CLOSED_ENDED),
        "truncated": float("truncated" in result.flags),
        "empty": float("empty" in result.flags),
    }
    if job.wants_gold and result.gold_reward is not None:
        logs["gold_reward"] = result.gold_reward
    return logs


_SUMMARY = "Score samples as OpenRLHF posts them"
PROTOCOL = ProtocolSpec(
    name="openrlhf",
    routes=[
        RouteSpec(
            "/get_reward",
            _SUMMARY,
            "For `--reward.remote_url http://HOST:PORT/get_reward?recipe=rer&max_response_tokens=128`.",
        ),
        RouteSpec("/r/{run}/get_reward", _SUMMARY, "The same, with the rewards attributed to a training run."),
    ],
    request_model=OpenRlhfRequest,
    reply_model=OpenRlhfReply,
    example={"query": ["Why is the sky blue?Air scatters blue light most."], "prompts": ["Why is the sky blue?"]},
    job=_job,
    reply=_reply,
    options=label_options,
    hold_s=150,  # its client ends the run after five quick refusals
    answer_s=175,  # its client times out after 180 s
)
