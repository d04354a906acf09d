"""Request bodies and replies of the servers. No sockets.

    vllm       POST /classify {"input": [ids or text]} or {"messages": […]}   {"data": [{"probs": [3.4]}]}
               POST /pooling, the same                                        {"data": [{"data": [3.4]}]}
    sglang     POST /classify {"input_ids": [ids]} or {"text": [text]}        [{"embedding": [3.4]}]
    tei        POST /predict {"inputs": [[text] or [prompt, response]]}       [[{"score": 3.4}]]
    glassbox   POST /score {"items": […], "gold": true}                       {"results": [{"gold_reward": 3.4}]}

A reply with another number of scores, several numbers for one text, or anything but numbers is a BadReplyError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from reward_service.errors import ModelError
from reward_service.models.remote.inputs import RemoteInput
from reward_service.models.remote.spec import RemoteSpec

Score = float | Exception
"""A number, or the server's error for the item."""


class BadReplyError(ModelError):
    """A server replied with something else than one score for each item."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A request field that selects raw logits or values in [0, 1]."""

    name: str
    raw: bool
    """Its value for raw logits."""


class Format(Protocol):
    """Bodies and replies of one kind of server."""

    switches: ClassVar[tuple[Switch, ...]]
    """Fields that versions of the server know; the first one that has an effect is used."""
    remedy: ClassVar[str]
    """How the server is made to return raw logits."""

    @property
    def path(self) -> str: ...

    @property
    def max_items(self) -> int:
        """Items of one request."""
        ...

    def body(self, items: Sequence[RemoteInput]) -> dict[str, Any]:
        """The request for `items`, without a switch."""
        ...

    def scores(self, reply: Any, n: int) -> list[Score]:
        """The scores of `n` items, in their order. Raises BadReplyError."""
        ...


@dataclass(frozen=True, slots=True)
class Vllm:
    """vLLM with a sequence classifier."""

    spec: RemoteSpec
    switches: ClassVar = (Switch("use_activation", False), Switch("activation", False), Switch("softmax", False))
    remedy: ClassVar = (
        """start vLLM with --pooler-config '{"use_activation": false}' (in older versions """
        """--override-pooler-config '{"activation": false}' or '{"softmax": false}')"""
    )

    @property
    def path(self) -> str:
        return f"/{self.spec.route}"

    @property
    def max_items(self) -> int:
        return 1 if self.spec.sends == "messages" else 32

    def body(self, items: Sequence[RemoteInput]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.spec.model} if self.spec.model else {}
        if self.spec.route == "pooling":
            body["task"] = "classify"
        if self.spec.sends == "messages":
            return body | {
                "messages": items[0].sent,
                "add_generation_prompt": False,
                "continue_final_message": False,
                "truncate_prompt_tokens": -1,
                "truncation_side": "left",
            }
        if self.spec.sends == "ids":
            return body | {"input": [list(item.input_ids) for item in items], "add_special_tokens": False}
        return body | {"input": [item.sent for item in items]}

    def scores(self, reply: Any, n: int) -> list[Score]:
        rows = {str(_member(row, "index")): row for row in _list(_member(reply, "data"), n)}
        name = "data" if self.spec.route == "pooling" else "probs"
        return [_only(_member(_member(rows, str(index)), name)) for index in range(n)]


@dataclass(frozen=True, slots=True)
class Sglang:
    """SGLang with a reward model; its `/v1/classify` applies a softmax, so its own route is used."""

    spec: RemoteSpec
    path: ClassVar = "/classify"
    max_items: ClassVar = 32
    switches: ClassVar = ()
    remedy: ClassVar = "serve a reward model with --is-embedding, whose /classify returns raw logits"

    def body(self, items: Sequence[RemoteInput]) -> dict[str, Any]:
        if self.spec.sends == "ids":
            return {"input_ids": [list(item.input_ids) for item in items]}
        return {"text": [item.sent for item in items]}

    def scores(self, reply: Any, n: int) -> list[Score]:
        return [_only(_member(row, "embedding")) for row in _list(reply, n)]


@dataclass(frozen=True, slots=True)
class Tei:
    """Text Embeddings Inference with a sequence classifier."""

    spec: RemoteSpec
    path: ClassVar = "/predict"
    max_items: ClassVar = 32
    switches: ClassVar = (Switch("raw_scores", True),)
    remedy: ClassVar = "use a version of Text Embeddings Inference whose /predict knows raw_scores"

    def body(self, items: Sequence[RemoteInput]) -> dict[str, Any]:
        is_pair = self.spec.sends == "pair"
        return {"inputs": [item.sent if is_pair else [item.sent] for item in items], "truncate": is_pair}

    def scores(self, reply: Any, n: int) -> list[Score]:
        return [_number(_member(_list(row, 1)[0], "score")) for row in _list(reply, n)]


@dataclass(slots=True)
class Glassbox:
    """A service like this one: its gold score of each item, with the errors of items."""

    spec: RemoteSpec
    revision: str | None = field(default=None)
    """Of the weights at start; scores of others are refused."""
    path: ClassVar = "/score"
    max_items: ClassVar = 64
    switches: ClassVar = ()
    remedy: ClassVar = ""

    def body(self, items: Sequence[RemoteInput]) -> dict[str, Any]:
        posted = [
            {"prompt": item.sent[:-1], "response": item.sent[-1]["content"], "query_type": "open_ended"}
            for item in items
        ]
        return {"items": posted, "recipe": "li", "gold": True, "on_item_error": "report"}

    def scores(self, reply: Any, n: int) -> list[Score]:
        models = _member(reply, "models")
        revision = models.get("gold_revision") if isinstance(models, dict) else None
        if self.revision is not None and revision != self.revision:
            raise BadReplyError(
                f"it serves the gold weights {revision} now, and {self.revision} at start: scores of both would "
                "be mixed; restart this service to use the new ones"
            )
        return [self._score(row) for row in _list(_member(reply, "results"), n)]

    @staticmethod
    def _score(row: Any) -> Score:
        error = _member(row, "error", default=None)
        if error is not None:
            return ModelError(f"it reports: {str(_member(error, 'message'))[:300]}")
        return _number(_member(row, "gold_reward"))


def format_of(spec: RemoteSpec) -> Format:
    """The format of the server that `spec` names."""
    kinds: dict[str, type[Any]] = {"vllm": Vllm, "sglang": Sglang, "tei": Tei, "glassbox": Glassbox}
    made: Format = kinds[spec.kind](spec)
    return made


_REQUIRED = object()


def _member(value: Any, name: str, default: Any = _REQUIRED) -> Any:
    found = value.get(name, default) if isinstance(value, dict) else _REQUIRED
    if found is _REQUIRED:
        raise BadReplyError(f"its reply has no {name!r} where one is documented")
    return found


def _list(value: Any, n: int) -> list[Any]:
    if not isinstance(value, list):
        raise BadReplyError("its reply has no list of scores")
    if len(value) != n:
        raise BadReplyError(f"its reply has {len(value)} results where {n} were asked for")
    return value


def _only(values: Any) -> float:
    if isinstance(values, list) and len(values) != 1:
        raise BadReplyError(
            f"it returns {len(values)} numbers for one text, and a reward model has one: serve a sequence "
            "classifier with one label (vLLM's /pooling: the task classify)"
        )
    return _number(_list(values, 1)[0])


def _number(value: Any) -> float:
    """A number, which may be NaN: the item's error says so."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadReplyError(f"its reply has {str(value)[:40]!r} where a score is documented")
    try:
        return float(value)
    except OverflowError:
        raise BadReplyError("its reply has a score that is too large") from None
