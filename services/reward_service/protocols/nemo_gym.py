"""/nemo_gym/…: a resources server of NeMo-Gym, for clients that name one by its URL, such as verifiers.

    POST /nemo_gym/verify
    {"responses_create_params": {"input": "Why is the sky blue?"}, "response": {"output": […]}, "reference": null}
    200 the same, and {"reward": 0.41, "glassbox/query_relevance": 0.7, …, "glassbox/part/baseline": 1.0, …}

A client appends the names of the routes to one URL, so the scoring options are a part of its path:
`/nemo_gym/recipe=rer&gold=true`. The parts are the attribution of the reward; their sum with the baseline is the
reward. The last message of the response is scored. A failure is an error status: this client does not know masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reward_client.wire import (
    MAX_LIST,
    ChatMessage,
    FieldError,
    Item,
    ItemResult,
    ScoreReply,
    error_message,
    error_path,
)
from reward_service.batching import Steps
from reward_service.errors import InvalidRequestError
from reward_service.protocols.base import OPTIONS, Call, ProtocolSpec, RouteSpec, ScoringOptions, WireModel
from reward_service.protocols.url_options import label_options
from reward_service.scoring.job import (
    InvalidItem,
    ItemLimits,
    Job,
    ScorableItem,
    reference_texts,
    scorable_item,
)

HOLD_S, ANSWER_S = 50.0, 57.0
"""verifiers, the client, does not retry, and times out after 60 s by default."""
_Items = Annotated[list[dict[str, Any]], Field(max_length=MAX_LIST)]
_INPUT, _OUTPUT = "responses_create_params.input", "response.output"
_OBJECTS = ("responses_create_params", "response")
_OWN = "glassbox/"
"""Begins the names of all numbers that a reply adds, except the reward."""
_VALUES = 1024
"""Values that are checked in one step."""


class CreateParams(WireModel):
    """The request to the policy, of which the input is read."""

    model_config = ConfigDict(extra="allow")

    input: _Items | str
    """The user's text, or messages; items of other types, such as calls of tools, are not scored."""
    instructions: str | None = None
    """The system message."""


class PolicyResponse(WireModel):
    """The policy's response, of which the last message is scored."""

    model_config = ConfigDict(extra="allow")

    output: _Items
    """Messages and other items, in order."""


class VerifyRequest(WireModel):
    """A row of the data set and the policy's response to it. The reply repeats every field."""

    model_config = ConfigDict(extra="allow")

    responses_create_params: CreateParams
    """The request to the policy."""
    response: PolicyResponse
    """The policy's response."""
    reference: Any = None
    """Reference answer, or a list of them; null and "" for none."""
    expected_answer: Any = None
    """The reference of a row that has no field `reference`."""
    query_type: Any = None
    """Kind of answer that the prompt requires; without it, a row with a reference is closed-ended by default."""


class VerifyReply(WireModel):
    """The request, the reward, and numbers that clients log: `glassbox/FEATURE` and `glassbox/part/FEATURE`."""

    model_config = ConfigDict(extra="allow")

    responses_create_params: dict[str, Any]
    """As it was sent."""
    response: dict[str, Any]
    """As it was sent."""
    reward: float
    """The reward."""


# Request ------------------------------------------------------------------------------------------------------


def _job(body: VerifyRequest, call: Call) -> Steps[Job]:
    options = call.options or label_options(call, b"")
    echo = _sent(body) | {name: _sent(getattr(body, name)) for name in _OBJECTS}
    yield from _check_finite(echo)
    fields = _Fields.of(body)
    limits = ItemLimits(call.settings)
    entries = list(_entry(body, fields, limits, options))
    limits.check()
    return Job(entries, options.recipe, options.gold, explain=True, path=fields.path, echo=echo)


def _sent(model: BaseModel) -> dict[str, Any]:
    """The fields that were sent, unknown ones too; their values are not copied."""
    return {name: value for name, value in model if name in model.model_fields_set}


@dataclass(frozen=True, slots=True)
class _Fields:
    """Where the texts of the item are in the body."""

    messages: tuple[str, ...]
    response: str
    reference: str

    @classmethod
    def of(cls, body: VerifyRequest) -> _Fields:
        turns = body.responses_create_params.input
        instructions = (
            ("responses_create_params.instructions",) if body.responses_create_params.instructions else ()
        )
        numbers = [i for i, turn in enumerate(turns) if _is_message(turn)] if isinstance(turns, list) else []
        inputs = [f"{_INPUT}.{i}" for i in numbers] if isinstance(turns, list) else [_INPUT]
        replies = [i for i, one in enumerate(body.response.output) if one.get("type") == "message"]
        return cls(
            (*instructions, *inputs),
            f"{_OUTPUT}.{replies[-1]}.content" if replies else _OUTPUT,
            "reference" if "reference" in body.model_fields_set else "expected_answer",
        )

    def path(self, _: int, name: str) -> str:
        """The path of a field of the item in the body."""
        field, *inner = name.split(".")
        if field == "prompt":
            place = self.messages[int(inner.pop(0))] if inner else _INPUT
            return ".".join([place, *inner]) if place.startswith(f"{_INPUT}.") else place
        response = dict.fromkeys(("response", "content"), self.response)  # `content` is that of the reply
        return ".".join([(response | {"reference": self.reference}).get(field, field), *inner])


def _entry(
    body: VerifyRequest, fields: _Fields, limits: ItemLimits, options: ScoringOptions
) -> Iterator[ScorableItem | InvalidItem]:
    try:
        reply = ChatMessage(role="assistant", content=_last_reply(body.response))
        item = Item(
            prompt=_prompt(body.responses_create_params),
            response=reply.content,
            reference=getattr(body, fields.reference),
            query_type=body.query_type,
        )
    except ValidationError as exc:
        error = exc.errors()[0]
        yield InvalidItem(".".join(map(str, error_path(error))), error_message(error))
        return
    if _fits(item, fields, limits):
        yield scorable_item(item, options.query_type_default)


def _fits(item: Item, fields: _Fields, limits: ItemLimits) -> bool:
    if not limits.references_fit(0, fields.reference, item.reference):
        return False
    if not limits.fits(0, _INPUT, len(item.prompt), limits.settings.max_messages, "messages"):
        return False
    messages = item.prompt if isinstance(item.prompt, list) else []
    prompt = [(fields.path(0, f"prompt.{i}.content"), message.content) for i, message in enumerate(messages)]
    references = reference_texts(fields.reference, item.reference)
    return limits.texts_fit(0, [*prompt, (fields.response, item.response), *references])


def _is_message(turn: Mapping[str, Any]) -> bool:
    return turn.get("type") in (None, "message")


def _prompt(params: CreateParams) -> list[dict[str, Any]]:
    turns = params.input if isinstance(params.input, list) else [{"role": "user", "content": params.input}]
    system = [{"role": "system", "content": params.instructions}] if params.instructions else []
    messages = ({name: turn.get(name) for name in ("role", "content")} for turn in turns if _is_message(turn))
    return [*system, *messages]


def _last_reply(response: PolicyResponse) -> Any:
    """Content of the last message of the policy; "" for a response without one."""
    contents = [one.get("content") for one in response.output if one.get("type") == "message"]
    last = contents[-1] if contents else ""
    return [_part(part) for part in last] if isinstance(last, list) else last


def _part(part: Any) -> Any:
    """A part of a message, a refusal as text: it is what the policy wrote."""
    is_refusal = isinstance(part, dict) and part.get("type") == "refusal"
    return {"type": "output_text", "text": part.get("refusal")} if is_refusal else part


def _check_finite(value: Any) -> Steps[None]:
    """Raise InvalidRequestError for a number that is no JSON, which the reply would repeat."""
    path: list[int | str] = []
    levels = [_members(value)]
    n_values = 0
    while levels:
        for name, member in levels[-1]:
            n_values += 1
            if n_values % _VALUES == 0:
                yield
            if isinstance(member, (dict, list)):
                path.append(name)
                levels.append(_members(member))
                break
            if isinstance(member, float) and not math.isfinite(member):
                field = ".".join(map(str, [*path, name]))
                error = FieldError(field=field, message=f"must be a finite number, not {member}")
                raise InvalidRequestError("a number is not finite", [error])
        else:
            levels.pop()
            del path[-1:]


def _members(value: dict[str, Any] | list[Any]) -> Iterator[tuple[int | str, Any]]:
    return iter(value.items()) if isinstance(value, dict) else iter(enumerate(value))


# Reply --------------------------------------------------------------------------------------------------------


def _reply(reply: ScoreReply, job: Job, _: Call) -> VerifyReply:
    result = reply.results[0]
    # A stored reply that is verified again has the numbers of the recipe that it was verified with.
    echo = {name: value for name, value in (job.echo or {}).items() if not name.startswith(_OWN)}
    return VerifyReply(**{**echo, **_numbers(result), "reward": result.reward})


def _numbers(result: ItemResult) -> dict[str, float]:
    """The features that apply, the gold score, and the parts of the reward."""
    numbers = result.numbers()
    if (attribution := result.attribution) is not None:
        numbers["part/baseline"] = attribution.baseline_reward
        numbers |= {f"part/{name}": value for name, value in attribution.parts.items()}
    return {f"{_OWN}{name}": value for name, value in numbers.items()}


def routes(name: str, summary: str, method: str = "POST") -> list[RouteSpec]:
    """The two paths of a route: without options, and with options before its name."""
    return [
        RouteSpec(f"/nemo_gym/{name}", summary, "For `resources_url = http://HOST:PORT/nemo_gym`.", method=method),
        RouteSpec(
            f"/nemo_gym/{{{OPTIONS}}}/{name}",
            summary,
            "For `resources_url = http://HOST:PORT/nemo_gym/recipe=rer&gold=true`.",
            method=method,
        ),
    ]


PROTOCOL = ProtocolSpec(
    name="nemo_gym",
    routes=routes("verify", "Score a response as NeMo-Gym's resources servers do; the reply repeats the request"),
    request_model=VerifyRequest,
    reply_model=VerifyReply,
    example={
        "responses_create_params": {"input": "Why is the sky blue?"},
        "response": {
            "output": [{"type": "message", "role": "assistant", "content": "Air scatters blue light most."}]
        },
    },
    job=_job,
    reply=_reply,
    options=label_options,
    hold_s=HOLD_S,
    answer_s=ANSWER_S,
)
