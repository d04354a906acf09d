"""Protocol specifications: everything that the service needs to serve a protocol.

    ProtocolSpec   options(call, body) ─▶ request_model ─▶ job(parsed, call) ─▶ scored ─▶ reply(reply, job, call)
                   before parsing          steps of the preparation                       a step of the preparation
    GoldSpec       the same, scored by the gold model alone
    HandlerSpec    request_model ─▶ handle(parsed, call): nothing is scored

A new protocol is one module, and its entry in `app.PROTOCOLS`. Routes with different requests or replies are
several specifications with one name. Admission, metrics and the OpenAPI document are derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from reward_client.wire import ScoreReply
from reward_service.batching import Steps
from reward_service.errors import InvalidRequestError
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.scoring.gold_only import GoldJob
from reward_service.scoring.job import Job, QueryTypeDefault
from reward_service.scoring.references import ReferenceLookup
from reward_service.settings import Settings


class WireModel(BaseModel):
    """A request, a reply or a part of one. The docstrings of its fields are in the OpenAPI document."""

    model_config = ConfigDict(use_attribute_docstrings=True)


BodyT = TypeVar("BodyT", bound=BaseModel)
Body = bytes | bytearray | mmap
"""An unparsed body."""
URL_OPTIONS = frozenset({"recipe", "gold", "query_type_default"})
"""Names of scoring options in a URL, beside parameters of the recipe."""
OPTIONS = "options"
"""Name of a path parameter with options as in a query string, for clients that append a route to their URL."""


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """Options of a request besides its items."""

    recipe: Recipe
    gold: bool = False
    all_golds: bool = False
    """Whether gold scores are those of all gold models, or of the primary one only."""
    query_type_default: QueryTypeDefault = None
    """For items with a reference and no query type."""


@dataclass(slots=True)
class Call:
    """One request, without its body."""

    settings: Settings
    recipes: RecipeRegistry
    headers: Mapping[bytes, bytes]
    """By lower-case name."""
    path: Mapping[str, str]
    """Parameters of the path."""
    query: Sequence[tuple[str, str]]
    """Parameters of the path parameter `OPTIONS` and of the query string, in order."""
    caller: str
    """Who capacity is shared with: an API key, or an address."""
    references: Callable[[], ReferenceLookup] | None = None
    """Opens the data set that the URL names, in a thread. Its parameters are not in `query`."""
    options: ScoringOptions | None = None
    """What `ProtocolSpec.options` returned."""


def _unknown_before_parsing(_: Call, __: Body) -> None:
    return None


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One path that a protocol is served at."""

    path: str
    """May have parameters: `/r/{run}/get_reward`."""
    summary: str
    description: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()
    """OpenAPI parameters besides those of the path, and of the headers that every route has."""
    method: str = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec(Generic[BodyT]):
    """What all specifications have. All functions raise InvalidRequestError or TooLargeError for what the caller
    has to change."""

    name: str
    """The protocol: label in metrics and logs."""
    routes: Sequence[RouteSpec]
    request_model: type[BodyT]
    reply_model: type[BaseModel]
    """Without aliases and custom serializers. A RootModel is a bare JSON value: a number, a list."""
    example: Mapping[str, Any] | None = None
    """A request that is answered with 200, for the OpenAPI document."""
    hold_s: float = 0
    """Seconds that a request may wait for admission, for clients that do not retry; 0 refuses at once."""
    answer_s: float = math.inf
    """Seconds in which a request must be answered: a little less than the client's own timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolSpec(EndpointSpec[BodyT]):
    """Routes that score items with a recipe."""

    job: Callable[[BodyT, Call], Job | Steps[Job]]
    """Makes the work of a request from its parsed body. Called in a thread that other requests wait for, so what
    takes long for many items belongs in an iterator of the job's entries, or in steps, which return the job."""
    reply: Callable[[ScoreReply, Job, Call], BaseModel]
    """Makes the protocol's reply. Called in a thread."""
    options: Callable[[Call, Body], ScoringOptions | None] = _unknown_before_parsing
    """Options of a request, if its URL or a search in its unparsed body is enough to know them.

    With them, a request is refused before its body is parsed, otherwise after. Called on the event loop.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldSpec(EndpointSpec[BodyT]):
    """Routes that return the gold model's scores of texts or conversations, without a recipe."""

    job: Callable[[BodyT, Call], GoldJob]
    """Makes the work of a request from its parsed body, as in `ProtocolSpec`."""


class NoBody(BaseModel):
    """`request_model` of routes whose requests have no body, such as those of the method GET."""


@dataclass(frozen=True, slots=True)
class LargeReply:
    """A reply that takes more memory than its request: `steps` make it when `n_bytes` are held for it."""

    n_bytes: int
    steps: Steps[BaseModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerSpec(EndpointSpec[BodyT]):
    """Routes that score nothing: a session is opened, models are listed."""

    handle: Callable[[BodyT, Call], BaseModel | Steps[BaseModel | LargeReply]]
    """Makes the reply from the parsed body; what takes long is a generator of steps, which returns the reply.
    Called in a thread that other requests wait for."""


# Protocols that send one list per field, instead of one object per item --------------------


def as_list(value: list[Any] | Any) -> list[Any]:
    """`value`, or a list of it when it is a single value."""
    return value if isinstance(value, list) else [value]


def parallel(name: str, value: list[Any] | Any | None, n: int, reference: str) -> list[Any]:
    """The field `name` as a list of `n` values; None means that it was not sent.

    Raises:
        InvalidRequestError: it has another length than the field `reference`.
    """
    if value is None:
        return [None] * n
    values = as_list(value)
    if len(values) != n:
        raise InvalidRequestError.in_field(name, f"has {len(values)} entries, {reference} has {n}")
    return values
