"""Rewards of items through one of the service's protocols.

    score       POST /score        reward, factors behind it, gold score; one bad item fails alone
    openrlhf    POST /get_reward   any HTTP reward that speaks it; the total only

Both send through `RewardClient`, so both have its retries, deadlines and errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from reward_client.client import RewardClient
from reward_client.errors import RewardError, RewardRejectedError, validation_errors
from reward_client.info import find_recipe
from reward_client.wire import Info, Item, ItemResult, QueryType, ScoreReply, usable_references


@dataclass(frozen=True, slots=True)
class Scored:
    """The reward of one item."""

    reward: float
    gold: float | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    """The factors of the reward, by feature; empty when only the total is known."""
    flags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an item has no reward."""

    message: str


Outcome = Scored | Failed


@dataclass(frozen=True, slots=True)
class Subject:
    """What was probed, for reports."""

    url: str
    protocol: str
    recipe: str | None = None
    recipe_hash: str | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    notices: Sequence[str] = ()


class Scorer(Protocol):
    """Scores items through a service."""

    subject: Subject
    """What scores them; complete after the first call of `score`."""

    def score(self, items: Sequence[Item]) -> list[Outcome]:
        """Outcomes in the order of `items`. Raises RewardError when the request as a whole fails."""
        ...


class ScoreProtocol:
    """`POST /score`. `recipe_overrides` change parameters of the recipe."""

    def __init__(
        self,
        client: RewardClient,
        recipe: str | None,
        *,
        gold: bool = False,
        recipe_overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = client
        self._overrides = dict(recipe_overrides or {})
        self._gold = gold
        self._explain = True
        info = client.info()
        self._recipe = recipe or info.default_recipe
        self._factors = factor_names(info, self._recipe)
        self.subject = Subject(client.urls[0], "score", self._recipe)

    def score(self, items: Sequence[Item]) -> list[Outcome]:
        """Outcomes with the factors of each reward."""
        reply = self._reply(items)
        self.subject = Subject(
            self.subject.url,
            "score",
            reply.recipe.name,
            reply.recipe.hash,
            {name: value for name, value in reply.models.fields().items() if value is not None},
            reply.notices,
        )
        return [self._outcome(item, result) for item, result in zip(items, reply.results, strict=True)]

    def _reply(self, items: Sequence[Item]) -> ScoreReply:
        """The reply with attributions, or without where an older service rejects `explain`."""
        options: dict[str, Any] = {"recipe": self._recipe, "gold": self._gold, "on_item_error": "report"}
        if self._overrides:
            options["recipe_overrides"] = self._overrides
        if self._explain:
            try:
                return self._client.score(items, explain=True, **options)
            except RewardRejectedError as exc:
                if not any(error.field.endswith("explain") for error in exc.errors):
                    raise
                self._explain = False
        return self._client.score(items, **options)

    def _outcome(self, item: Item, result: ItemResult) -> Outcome:
        if result.reward is None:
            error = result.error
            return Failed(f"{error.field}: {error.message}" if error else "no reward and no error")
        if result.attribution is not None:
            factors = result.attribution.factors
        else:
            values = {
                name: result.features.get(name) for name in self._factors[item.query_type or QueryType.OPEN_ENDED]
            }
            factors = {name: value for name, value in values.items() if value is not None}
        return Scored(result.reward, result.gold_reward, factors, tuple(result.flags))


def factor_names(info: Info, recipe: str) -> dict[QueryType, list[str]]:
    """The features that are multiplied, for each query type. Raises UnknownRecipeError."""
    found = find_recipe(info, recipe)
    branches = {query_type: found.parameters.get(query_type.value, []) for query_type in QueryType}
    return {
        query_type: [name for factor in factors for name in _features(factor)]
        for query_type, factors in branches.items()
    }


def _features(factor: Any) -> Iterator[str]:
    """The feature of a factor, and the one that replaces it where it does not apply."""
    if isinstance(factor, str):
        yield factor
    elif factor is not None:
        yield factor["feature"]
        yield from _features(factor.get("otherwise"))


class _OpenRlhfReply(BaseModel):
    model_config = ConfigDict(extra="ignore")

    rewards: list[float]


class OpenRlhfProtocol:
    """`POST /get_reward`, or another URL that accepts the same body.

    Args:
        client: its URL has no path.
        route: path and query of the reward's URL.
        label_json: labels are objects with reference and query type, instead of the reference alone.
    """

    def __init__(self, client: RewardClient, route: str, *, label_json: bool = False) -> None:
        self._client = client
        self._route = route
        self._label_json = label_json
        self.subject = Subject(f"{client.urls[0]}{route}", "openrlhf")

    def score(self, items: Sequence[Item]) -> list[Outcome]:
        """Outcomes with totals only."""
        body = {
            "query": [f"{_text(item)}{item.response}" for item in items],
            "prompts": [_text(item) for item in items],
            "labels": [self._label(item) for item in items],
        }
        content = self._client.post(self._route, json.dumps(body, ensure_ascii=False).encode())
        try:
            rewards = _OpenRlhfReply.model_validate_json(content).rewards
        except ValidationError as exc:
            raise RewardError(f"the reply is not one of OpenRLHF's protocol: {validation_errors(exc)[0]}") from exc
        if len(rewards) != len(items):
            raise RewardError(f"the reply to {len(items)} samples has {len(rewards)} rewards")
        return [
            Scored(reward) if math.isfinite(reward) else Failed(f"the reward is {reward}, which is not finite")
            for reward in rewards
        ]

    def _label(self, item: Item) -> str | None:
        reference = item.reference if item.query_type is QueryType.CLOSED_ENDED else None
        if not self._label_json:
            return next((text for _, text in usable_references(reference)), None)
        return json.dumps({"reference": reference, "query_type": item.query_type}, ensure_ascii=False)


def openrlhf_route(urls: Sequence[str], recipe: str | None) -> tuple[list[str], str]:
    """The URLs of the servers, and the path and query that OpenRLHF posts to, which replicas must have in common.

    The path is `/get_reward` for URLs without one; `recipe` becomes a parameter. Raises RewardError.
    """
    servers: list[str] = []
    routes: dict[str, None] = {}
    for parsed in map(httpx.URL, urls):
        posted = parsed.copy_with(path="/get_reward") if parsed.path in {"", "/"} else parsed
        posted = posted.copy_merge_params({"recipe": recipe}) if recipe else posted
        routes[posted.raw_path.decode()] = None
        servers.append(str(parsed.copy_with(raw_path=b"/")).rstrip("/"))
    route, *others = routes
    if others:
        raise RewardError(f"replicas must have the same path and options, not {route} and {others[0]}")
    return servers, route


def _text(item: Item) -> str:
    """The prompt as plain text, with a line break before the response."""
    if isinstance(item.prompt, str):
        return f"{item.prompt}\n"
    return "".join(f"{message.content}\n" for message in item.prompt)
