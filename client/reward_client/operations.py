"""What a client can ask, as conversations: score, with large batches in parts, info, ready.

Operations.score ─▶ small ─────────────────────────────▶ POST /score ─▶ checked reply
             └▶ large, or refused with 413 ─▶ GET /info, once ─▶ parts ─▶ POST /score each ─▶ joined reply
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from reward_client.endpoints import Endpoints
from reward_client.errors import RewardError, RewardRejectedError, Unscored
from reward_client.flow import Call, ClientConfig, Outcome, RawResponse, Step, request_flow
from reward_client.splitting import check_same_reward, join, reindex, split
from reward_client.wire import Info, Item, LimitsInfo, OnItemError, QueryType, ScoreReply, ScoreRequest

__all__ = ["Operations", "score_request"]

SMALL_ITEMS = 256
"""Items of a request that is sent without asking for the limits first: every service is likely to admit them."""
SMALL_BYTES = 1024 * 1024
"""Bytes of such a request's body."""
_TOO_LARGE = 413

ModelT = TypeVar("ModelT", bound=BaseModel)
ResultT = TypeVar("ResultT")
Flow = Generator[Step, Outcome, ResultT]


def score_request(
    items: Sequence[Item],
    *,
    recipe: str | None = None,
    recipe_overrides: Mapping[str, Any] | None = None,
    query_type_default: QueryType | None = None,
    gold: bool = False,
    on_item_error: OnItemError = "fail",
    run: str | None = None,
    step: int | None = None,
) -> ScoreRequest:
    """The request that `score` posts; the arguments are the fields of `wire.ScoreRequest`.

    It may hold more items than one request on the wire: `Operations.score` sends parts of it.
    """
    first = ScoreRequest(
        items=list(items[:1]),
        recipe=recipe,
        recipe_overrides=dict(recipe_overrides) if recipe_overrides else None,
        query_type_default=query_type_default,
        gold=gold,
        on_item_error=on_item_error,
        run=run,
        step=step,
    )
    return first.model_copy(update={"items": list(items)})


class Operations:
    """The conversations of one client."""

    def __init__(self, endpoints: Endpoints, terms: ClientConfig) -> None:
        self._endpoints = endpoints
        self._terms = terms
        self._limits: LimitsInfo | None = None

    def info(self, deadline_s: float | None) -> Flow[Info]:
        """GET /info."""
        answer = yield from self._converse(self._call("GET", "/info", deadline_s))
        return _parsed(Info, answer)

    def ready(self, deadline_s: float | None) -> Flow[None]:
        """GET /readyz."""
        call = self._call("GET", "/readyz", deadline_s)
        yield from self._converse(replace(call, heeds_circuit=False))

    def score(self, request: ScoreRequest, deadline_s: float | None) -> Flow[ScoreReply]:
        """POST /score, once or in parts."""
        replies: list[ScoreReply] = []
        try:
            yield from self._score(request, self._call("POST", "/score", deadline_s), replies)
        except RewardError as exc:
            n_scored = sum(len(reply.results) for reply in replies)
            exc.unscored = tuple(Unscored(i, item.id) for i, item in enumerate(request.items) if i >= n_scored)
            exc.partial = join(replies) if replies else None
            raise
        return join(replies)

    def _score(self, request: ScoreRequest, call: Call, replies: list[ScoreReply]) -> Flow[None]:
        """Add the reply to each part to `replies`."""
        if len(request.items) <= SMALL_ITEMS and len(body := _body(request)) <= SMALL_BYTES:
            try:
                replies.append((yield from self._score_part(request, replace(call, body=body))))
            except RewardRejectedError as exc:
                parts = yield from self._parts_after(exc, request, call)
            else:
                return
        else:
            parts = yield from self._parts(request, call)
        for part in parts:
            reply = yield from self._score_range(request, part, call)
            check_same_reward(replies[0] if replies else reply, reply)
            replies.append(reply)

    def _score_range(self, request: ScoreRequest, part: range, call: Call) -> Flow[ScoreReply]:
        chosen = request.model_copy(update={"items": request.items[part.start : part.stop]})
        try:
            return (yield from self._score_part(chosen, replace(call, body=_body(chosen))))
        except RewardRejectedError as exc:
            if exc.problem.status == _TOO_LARGE:
                self._limits = None  # these were not the service's limits, or no longer
            raise RewardRejectedError(reindex(exc.problem, part.start)) from exc

    def _score_part(self, request: ScoreRequest, call: Call) -> Flow[ScoreReply]:
        reply = _parsed(ScoreReply, (yield from self._converse(call)))
        _check_belongs(reply, request)
        return reply

    def _parts_after(self, refusal: RewardRejectedError, request: ScoreRequest, call: Call) -> Flow[list[range]]:
        """Smaller parts for a request that was too large after all; raise `refusal` when they would not help."""
        if refusal.problem.status != _TOO_LARGE or len(request.items) == 1:
            raise refusal
        self._limits = None  # the service may have other limits than when we asked
        parts = yield from self._parts(request, call)
        if len(parts) == 1:
            raise refusal
        return parts

    def _parts(self, request: ScoreRequest, call: Call) -> Flow[list[range]]:
        if self._limits is None:
            info = replace(call, method="GET", path="/info")
            self._limits = _parsed(Info, (yield from self._converse(info))).limits
        envelope = len(_body(request.model_copy(update={"items": []})))
        sizes = [len(item.model_dump_json(exclude_none=True).encode()) for item in request.items]
        return split(sizes, envelope, self._limits)

    def _call(self, method: str, path: str, deadline_s: float | None) -> Call:
        if deadline_s is None:
            return Call(method, path)
        return Call(method, path, None, self._terms.clock() + deadline_s, deadline_s)

    def _converse(self, call: Call) -> Flow[RawResponse]:
        return (yield from request_flow(call, self._endpoints, self._terms))


def _body(request: ScoreRequest) -> bytes:
    return request.model_dump_json(exclude_none=True).encode()


def _parsed(model: type[ModelT], answer: RawResponse) -> ModelT:
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as exc:
        raise RewardError(f"the service answered what is no {model.__name__}: {exc}") from exc


def _check_belongs(reply: ScoreReply, request: ScoreRequest) -> None:
    """A reward for each item, and for no other one. Raises RewardError."""
    n_asked, n_got = len(request.items), (len(reply.results), len(reply.rewards))
    if n_got != (n_asked, n_asked):
        raise RewardError(f"asked for {n_asked} rewards, got {n_got[1]} with {n_got[0]} results")
    for index, (item, result) in enumerate(zip(request.items, reply.results, strict=True)):
        if result.id != item.id:
            raise RewardError(
                f"item {index} has id {item.id!r}, its result id {result.id!r}: a reply to other items"
            )
        if result.reward != reply.rewards[index]:
            raise RewardError(f"item {index} has two rewards: {reply.rewards[index]} and {result.reward}")
        if result.reward is None and (result.error is None or request.on_item_error == "fail"):
            raise RewardError(f"item {index} has no reward, and the service does not say why")
