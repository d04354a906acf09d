"""Operations of a client, as request flows: score, info, ready. A large batch is sent in parts.

Operations.score ─▶ small ─────────────────────────────▶ POST /score ─▶ checked reply
             └▶ large, or rejected with 413 ─▶ GET /info, once ─▶ parts ─▶ POST /score each ─▶ joined reply
                                                                └ rejected with 413 ─▶ smaller parts, halves

sizes, limits ──▶ split() ──▶ [0:3] [3:5] … consecutive, so that order is kept
replies ────────▶ join() ─▶ one ScoreReply, as for a single request
problem of a part, its first item ──▶ reindex() ──▶ the problem, with indices in the whole batch
"""

import math
import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from reward_client.endpoints import Endpoints
from reward_client.errors import RewardError, RewardRejectedError, Unscored, validation_errors
from reward_client.flow import Call, ClientConfig, Outcome, RawResponse, Step, request_flow
from reward_client.notices import join_notices
from reward_client.score_call import check_dataset_is_read
from reward_client.wire import (
    Info,
    Item,
    LimitsInfo,
    Problem,
    ScoreReply,
    ScoreRequest,
    TextCounts,
    TimingMs,
)

SMALL_ITEMS = 256
"""Up to so many items, a request is sent without reading the limits of the service first."""
SMALL_BYTES = 1024 * 1024
"""The same for the bytes of the body."""
_TOO_LARGE = 413
_ITEM_FIELD = re.compile(r"^(?:body\.)?items\.(\d+)\b")

ModelT = TypeVar("ModelT", bound=BaseModel)
ResultT = TypeVar("ResultT")
Flow = Generator[Step, Outcome, ResultT]


class Operations:
    """The operations of one client."""

    def __init__(self, endpoints: Endpoints, config: ClientConfig) -> None:
        self._endpoints = endpoints
        self._config = config
        self._limits: LimitsInfo | None = None

    def info(self, deadline_s: float | None) -> Flow[Info]:
        """GET /info."""
        response = yield from self._send(self._call("GET", "/info", deadline_s))
        return parsed(Info, response.body)

    def ready(self, deadline_s: float | None) -> Flow[None]:
        """GET /readyz."""
        call = self._call("GET", "/readyz", deadline_s)
        yield from self._send(replace(call, respects_circuit=False))

    def request(self, method: str, path: str, body: bytes | None, deadline_s: float | None) -> Flow[bytes]:
        """A request to any route; the body of the response."""
        response = yield from self._send(replace(self._call(method, path, deadline_s), body=body, hint=""))
        return response.body

    def score(self, request: ScoreRequest, deadline_s: float | None, path: str = "/score") -> Flow[ScoreReply]:
        """POST /score, as one request or in parts; `path` may have a query."""
        replies: list[ScoreReply] = []
        try:
            yield from self._score(request, self._call("POST", path, deadline_s), replies)
        except RewardError as exc:
            n_scored = sum(len(reply.results) for reply in replies)
            exc.unscored = tuple(Unscored(i, item.id) for i, item in enumerate(request.items) if i >= n_scored)
            exc.partial = join(replies) if replies else None
            raise
        return join(replies)

    def _score(self, request: ScoreRequest, call: Call, replies: list[ScoreReply]) -> Flow[None]:
        """Score `request` and append the reply to each part to `replies`."""
        parts = [range(len(request.items))]
        if len(request.items) <= SMALL_ITEMS and len(body := _body(request)) <= SMALL_BYTES:
            call = replace(call, body=body)
        else:
            self._limits = self._limits or (yield from self._read_limits(call))
            parts = self._parts(request, parts[0], self._limits)
        while parts:
            part = parts.pop(0)
            try:
                reply = yield from self._score_part(request, part, call)
            except RewardRejectedError as exc:
                parts[:0] = yield from self._smaller_parts(exc, request, part, call)
                continue
            check_same_reward(replies[0] if replies else reply, reply)
            replies.append(reply)

    def _score_part(self, request: ScoreRequest, part: range, call: Call) -> Flow[ScoreReply]:
        """The reply to the items in `part`. `call` may have the body for all of them."""
        if len(part) < len(request.items) or call.body is None:
            request = request.model_copy(update={"items": request.items[part.start : part.stop]})
            call = replace(call, body=_body(request))
        try:
            reply = parsed(ScoreReply, (yield from self._send(call)).body)
        except RewardRejectedError as exc:
            raise RewardRejectedError(reindex(exc.problem, part.start)) from exc
        _check_belongs(reply, request)
        check_dataset_is_read(call.path, reply, request)
        return reply

    def _smaller_parts(
        self, rejection: RewardRejectedError, request: ScoreRequest, part: range, call: Call
    ) -> Flow[list[range]]:
        """`part` in smaller parts, if it was rejected as too large; raise `rejection` if that cannot help.

        A part that is within all limits that can be counted here is halved: sentences, and what the service finds
        in a data set, are counted there.
        """
        if rejection.problem.status != _TOO_LARGE or len(part) == 1:
            raise rejection
        self._limits = yield from self._read_limits(call)  # they may have changed
        parts = self._parts(request, part, self._limits)
        if len(parts) > 1:
            return parts
        named = rejection.errors_by_item
        if any(_exceeds(request.items[i], self._limits) for i in part if i in named):
            raise rejection  # smaller parts would be rejected for the same items
        middle = part.start + len(part) // 2
        return [range(part.start, middle), range(middle, part.stop)]

    def _read_limits(self, call: Call) -> Flow[LimitsInfo]:
        info = replace(call, method="GET", path="/info", body=None)
        return parsed(Info, (yield from self._send(info)).body).limits

    def _parts(self, request: ScoreRequest, part: range, limits: LimitsInfo) -> list[range]:
        """The items in `part`, in parts within `limits`."""
        items = request.items[part.start : part.stop]
        envelope = len(_body(request.model_copy(update={"items": []})))
        sizes = [len(item.model_dump_json(exclude_none=True).encode()) for item in items]
        values = [_n_values(item, limits) for item in items]
        found = split(sizes, values, envelope, limits)
        return [range(part.start + one.start, part.start + one.stop) for one in found]

    def _call(self, method: str, path: str, deadline_s: float | None) -> Call:
        if deadline_s is None:
            return Call(method, path)
        return Call(method, path, None, self._config.clock() + deadline_s, deadline_s)

    def _send(self, call: Call) -> Flow[RawResponse]:
        return (yield from request_flow(call, self._endpoints, self._config))


def _body(request: ScoreRequest) -> bytes:
    """Without defaults, so that services that do not know a new field accept requests that do not use it."""
    return request.model_dump_json(exclude_defaults=True).encode()


def parsed(model: type[ModelT], body: bytes) -> ModelT:
    """The body of a reply as a `model`. Raises RewardError."""
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        raise RewardError(
            f"the service's reply is not a valid {model.__name__}: {validation_errors(exc)[0]}"
        ) from exc


def _check_belongs(reply: ScoreReply, request: ScoreRequest) -> None:
    """Check that the reply has one reward for each item of the request. Raises RewardError."""
    n_items, n_results, n_rewards = len(request.items), len(reply.results), len(reply.rewards)
    if not n_items == n_results == n_rewards:
        raise RewardError(f"the reply to {n_items} items has {n_rewards} rewards and {n_results} results")
    for index, (item, result) in enumerate(zip(request.items, reply.results, strict=True)):
        if result.id != item.id:
            raise RewardError(
                f"item {index} has id {item.id!r}, its result has id {result.id!r}: the reply is for other items"
            )
        if result.reward != reply.rewards[index]:
            raise RewardError(f"item {index} has two rewards: {reply.rewards[index]} and {result.reward}")
        if result.reward is None and (result.error is None or request.on_item_error == "fail"):
            raise RewardError(f"item {index} has no reward and no error")


_ENVELOPE_VALUES = 300
"""JSON values of a request besides its items, at most."""


def _n_values(item: Item, limits: LimitsInfo) -> int:
    """JSON values of `item`, at most: itself, its fields, its references and the fields of its messages.

    A reference counts for its share of `max_request_references`, if that is more than one value.
    """
    n_references = len(item.reference) if isinstance(item.reference, list) else 0
    if limits.max_values and limits.max_request_references:
        n_references *= math.ceil(limits.max_values / limits.max_request_references)
    return 8 + n_references + (3 * len(item.prompt) if isinstance(item.prompt, list) else 0)


def _exceeds(item: Item, limits: LimitsInfo) -> bool:
    """Whether the service rejects a request with nothing but `item`."""
    prompt = [item.prompt] if isinstance(item.prompt, str) else [message.content for message in item.prompt]
    references = item.reference if isinstance(item.reference, list) else [item.reference]
    texts = [len(text or "") for text in (*prompt, item.response, *references)]
    counts = (
        (max(texts), limits.max_text_chars),
        (sum(texts), limits.max_item_chars),
        (len(prompt), limits.max_messages),
        (len(references), limits.max_references),
        (len(item.id or ""), limits.max_id_chars),
    )
    return any(limit is not None and n > limit for n, limit in counts)


def split(
    item_bytes: Sequence[int], item_values: Sequence[int], envelope_bytes: int, limits: LimitsInfo
) -> list[range]:
    """Consecutive ranges of items within `limits`, each as large as possible.

    Args:
        item_bytes: bytes of each item in the body.
        item_values: JSON values of each item.
        envelope_bytes: bytes of the body without items.
        limits: of the service. An item that exceeds them alone gets a separate range; the service will reject it.
    """
    parts: list[range] = []
    max_values = limits.max_values or math.inf  # older services have no such limit
    start, size, values = 0, envelope_bytes, _ENVELOPE_VALUES
    for index, (item_size, n_values) in enumerate(zip(item_bytes, item_values, strict=True)):
        size += item_size + 1  # and a comma
        values += n_values
        too_large = size > limits.max_body_bytes or values > max_values
        if index > start and (index - start >= limits.max_items or too_large):
            parts.append(range(start, index))
            start, size, values = index, envelope_bytes + item_size + 1, _ENVELOPE_VALUES + n_values
    return [*parts, range(start, len(item_bytes))]


def check_same_reward(first: ScoreReply, other: ScoreReply) -> None:
    """Raise RewardError when two parts were scored by different recipes or models."""
    if (other.recipe, other.models) != (first.recipe, first.models):
        raise RewardError(
            f"the service changed recipe or models within one batch: {first.recipe!r}, {first.models!r} became "
            f"{other.recipe!r}, {other.models!r}. Score the batch again."
        )


def join(replies: Sequence[ScoreReply]) -> ScoreReply:
    """The replies to consecutive parts as one reply.

    Parts are sent one after the other, so `timing_ms` is the sum over them, stage by stage.
    """
    first = replies[0]
    golds = [reply.timing_ms.gold for reply in replies if reply.timing_ms.gold is not None]
    return first.model_copy(
        update={
            "rewards": [reward for reply in replies for reward in reply.rewards],
            "results": [result for reply in replies for result in reply.results],
            "timing_ms": TimingMs(
                queue=sum(reply.timing_ms.queue for reply in replies),
                encode=sum(reply.timing_ms.encode for reply in replies),
                gold=sum(golds) if golds else None,
                total=sum(reply.timing_ms.total for reply in replies),
            ),
            "texts": TextCounts(
                cached=sum(reply.texts.cached for reply in replies),
                shared=sum(reply.texts.shared for reply in replies),
                encoded=sum(reply.texts.encoded for reply in replies),
            ),
            "notices": join_notices(*(reply.notices for reply in replies)),
        }
    )


def reindex(problem: Problem, first: int) -> Problem:
    """The problem of a part, with item indices in the whole batch; `first` is the part's first item."""

    def renumber(match: re.Match[str]) -> str:
        return match[0][: match.start(1)] + str(int(match[1]) + first)

    errors = []
    for error in problem.errors:
        item = None if error.item is None else error.item + first
        errors.append(error.model_copy(update={"item": item, "field": _ITEM_FIELD.sub(renumber, error.field)}))
    return problem.model_copy(update={"errors": errors})
