"""POST /get_reward: OpenRLHF's protocol, from its one-sample posts of today to the batches of older releases.

    {"query": [prompt + response], "prompts": [prompt], "labels": [label]}
    200 {"rewards": [0.41], "scores": [0.08], "extra_logs": {"length_incentive": [0.62], …}, "notices": […]}

What to compute stands in the URL, because the body has no room: `?recipe=rer&max_response_tokens=128&gold=true`.
`scores` are rewards mapped from the recipe's range to [0, 1] and clipped; OpenRLHF filters by them. `extra_logs`
has one key set per URL, all floats, because OpenRLHF reads the keys of one sample and expects them of all.
Requests are held where others are refused (`patience.py`): this client takes a refusal for the end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reward_client.wire import MAX_LIST, AnyQueryType, FieldError, Item, ItemResult, QueryType, ScoreReply, Text
from reward_service.errors import InvalidRequestError, TooLargeError
from reward_service.features.recipe import Recipe
from reward_service.http.app_state import AppState, AppStateDep
from reward_service.http.json_body import parse
from reward_service.http.openapi import ERROR_RESPONSES, request_body
from reward_service.protocols.chat_templates import CleanExchange, clean
from reward_service.scoring.job import Job
from reward_service.scoring.validation import InvalidItem, ScorableItem, check_lengths, scorable_item

__all__ = ["router"]

router = APIRouter(tags=["OpenRLHF"])


class OpenRlhfRequest(BaseModel):
    """What OpenRLHF 0.5 to 0.11 posts; keys that a later release may add are left alone."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    query: Annotated[list[str], Field(max_length=MAX_LIST)] | str
    """Prompt and response, as the tokenizer decodes them, special tokens included."""
    prompts: Annotated[list[str], Field(max_length=MAX_LIST)] | str | None = None
    """The rendered prompts, whole."""
    labels: Annotated[list[Any], Field(max_length=MAX_LIST)] | Any = None
    """Per sample: null, a reference in plain text, or `{"reference", "query_type", "id"}`, object or JSON."""


class Label(BaseModel):
    """The label column when it carries more than a reference."""

    model_config = ConfigDict(extra="forbid")

    reference: Text | None = None
    query_type: AnyQueryType | None = None
    id: str | None = None


class OpenRlhfReply(BaseModel):
    """Parallel lists, in the order of the request."""

    rewards: list[float]
    scores: list[float] = Field(description="rewards mapped to [0, 1] by the recipe's range, clipped")
    extra_logs: dict[str, list[float]]
    flags: list[list[str]] = []
    """What was noticed, or done to the text, of each sample."""
    notices: list[str] = []


_BODY = request_body("OpenRlhfRequest")


@router.post("/get_reward", response_model=OpenRlhfReply, responses=ERROR_RESPONSES, openapi_extra=_BODY)
async def get_reward(request: Request, state: AppStateDep) -> Response:
    """For `--reward.remote_url http://HOST:PORT/get_reward?recipe=rer&max_response_tokens=128`."""
    return await _answer(request, state, run=None)


@router.post("/r/{run}/get_reward", response_model=OpenRlhfReply, responses=ERROR_RESPONSES, openapi_extra=_BODY)
async def get_reward_of_run(run: str, request: Request, state: AppStateDep) -> Response:
    """The same, with the rewards attributed to a training run."""
    return await _answer(request, state, run=run)


async def _answer(request: Request, state: AppState, run: str | None) -> Response:
    return await state.pipeline.answer(request, "openrlhf", lambda body: _scored(request, body, state, run))


async def _scored(request: Request, content: bytes, state: AppState, run: str | None) -> bytes:
    body = parse(OpenRlhfRequest, content)
    recipe, gold, default = _wishes(request, state)
    samples = await asyncio.to_thread(_samples, body, state.settings.max_items, state.settings.max_text_chars)
    _check_references(samples, state.settings.max_text_chars)
    if not samples:
        return _json(OpenRlhfReply(rewards=[], scores=[], extra_logs={}))
    job = Job([_entry(sample, default) for sample in samples], recipe, gold=gold, path=_path)
    reply = await state.score(job, protocol="openrlhf", run=run)
    return _json(_reply(reply, job))


def _json(reply: OpenRlhfReply) -> bytes:
    return reply.model_dump_json().encode()


# What the URL asks for ---------------------------------------------------------------------------------------

_OWN_PARAMETERS = {"recipe", "gold", "query_type_default"}


def _wishes(request: Request, state: AppState) -> tuple[Recipe, bool, QueryType | None]:
    """Recipe with its overrides, whether gold is wanted, and the default query type."""
    parameters = dict(request.query_params)
    if len(parameters) != len(request.query_params.multi_items()):
        raise InvalidRequestError("a parameter stands twice in the URL", [_field("url", "has a parameter twice")])
    overrides = {key: _literal(value) for key, value in parameters.items() if key not in _OWN_PARAMETERS}
    recipe = state.recipes.get(parameters.get("recipe", state.settings.default_recipe), overrides)
    gold = _parameter("gold", bool, parameters.get("gold", "false"))
    given = parameters.get("query_type_default")
    default = _parameter("query_type_default", AnyQueryType, given) if given is not None else None
    return recipe, gold, default or recipe.query_type_default


def _parameter(name: str, kind: Any, value: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as exc:
        message = exc.errors()[0]["msg"]
        raise InvalidRequestError(f"{name}={value!r} in the URL: {message}", [_field(name, message)]) from exc


def _literal(value: str) -> Any:
    """Numbers, lists and null as JSON writes them; anything else is text."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


# From posted lists to candidates -----------------------------------------------------------------------------

Sample = tuple[CleanExchange, Label] | InvalidItem


def _samples(body: OpenRlhfRequest, max_items: int, max_chars: int) -> list[Sample]:
    queries = _listed(body.query)
    if len(queries) > max_items:
        raise TooLargeError(f"{len(queries)} samples, at most {max_items} fit one request")
    prompts = _parallel("prompts", body.prompts, len(queries))
    labels = _parallel("labels", body.labels, len(queries))
    check_lengths(_texts(queries, prompts, labels), max_chars)
    return [_sample(*row) for row in zip(queries, prompts, labels, strict=True)]


def _check_references(samples: Sequence[Sample], max_chars: int) -> None:
    good = (
        (i, sample[1].reference or "") for i, sample in enumerate(samples) if not isinstance(sample, InvalidItem)
    )
    check_lengths(((i, f"labels.{i}.reference", text) for i, text in good), max_chars)


def _sample(query: str, prompt: str | None, label: Any) -> Sample:
    try:
        exchange = clean(query, prompt)
    except ValueError as exc:
        return InvalidItem(field="query", message=str(exc))
    try:
        return exchange, _label(label)
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(map(str, ("labels", *error["loc"])))
        return InvalidItem(field=where, message=error["msg"])


def _label(value: Any) -> Label:
    """Null and "" say nothing; an object has our keys or is wrong; all else is a reference in plain words."""
    if value is None or value == "":
        return Label()
    decoded = _literal(value) if isinstance(value, str) else value
    if isinstance(decoded, dict):
        return Label.model_validate(decoded)
    return Label(reference=value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _entry(sample: Sample, default: QueryType | None) -> ScorableItem | InvalidItem:
    if isinstance(sample, InvalidItem):
        return sample
    exchange, label = sample
    if not exchange.messages:
        return InvalidItem(field="prompts", message="holds no turn that can be read")
    item = Item(prompt=list(exchange.messages), response=exchange.response, **label.model_dump())
    return scorable_item(item, default, exchange.flags)


def _listed(value: list[Any] | Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parallel(name: str, value: list[Any] | Any, n: int) -> list[Any]:
    """`value` as a list of `n`; None stands for n times nothing. Raises InvalidRequestError."""
    if value is None:
        return [None] * n
    values = _listed(value)
    if len(values) != n:
        message = f"has {len(values)} entries, query has {n}"
        raise InvalidRequestError(f"{name} {message}", [_field(name, message)])
    return values


def _texts(
    queries: Sequence[str], prompts: Sequence[Any], labels: Sequence[Any]
) -> Iterable[tuple[int, str, str]]:
    for name, values in (("query", queries), ("prompts", prompts), ("labels", labels)):
        yield from ((i, f"{name}.{i}", value) for i, value in enumerate(values) if isinstance(value, str))


_BODY_FIELDS = {"prompt": "prompts", "response": "query", "query": "query", "prompts": "prompts"}


def _path(index: int, name: str) -> str:
    """`labels.3.reference`, `query.3`, …: where in the posted lists an item's field stands."""
    own, _, rest = name.partition(".")
    field = _BODY_FIELDS.get(own)
    if field is not None:
        return f"{field}.{index}"
    return f"labels.{index}.{rest if own == 'labels' else name}".rstrip(".")


def _field(name: str, message: str) -> FieldError:
    return FieldError(field=name, message=message)


# From results to parallel lists ------------------------------------------------------------------------------


def _reply(reply: ScoreReply, job: Job) -> OpenRlhfReply:
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
