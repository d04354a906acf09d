"""Features, gold scores and the rewards of other recipes, measured by the service.

    rows ─▶ OUT/rows.jsonl ─▶ score_file with a recipe of every feature ─▶ OUT/features-1.jsonl, …
                           └▶ score_file with each recipe to compare    ─▶ OUT/rewards-NAME.jsonl

An interrupted measurement continues at the end of these files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reward_client import RewardClient
from reward_client.info import find_recipe
from reward_client.rows import FileError
from reward_client.score_file import score_file
from reward_client.wire import FeatureInfo, Info, QueryType, RecipeInfo
from reward_evidence.engineer.rows import Row
from reward_evidence.engineer.shapes import Bounds
from reward_evidence.engineer.table import FloatArray, Table
from reward_runs.files import replace_text

COMPARED = ("rer", "glassbox")
"""Recipes that the result is compared with, where the service has them."""
LONGEST = "longest"
"""The reward that is the number of words."""
_BASE = "glassbox"
_PLAIN: Mapping[str, Any] = {
    "similarity": "cosine",
    "query_relevance_range": [0.0, 1.0],
    "reference_relevance_range": [0.0, 1.0],
    "relevance_floor": 0.0,
    "feature_ranges": {},
    "feature_floors": {},
    "empty_is_zero": True,
}
"""Parameters that a base has: relevance is max(0, cosine), other features are as they are, empty earns 0."""
_LENGTH = "length_incentive"
_RELEVANCE = ("query_relevance", "reference_relevance")
_FEATURES_A_REQUEST = 20
"""Overrides of a request have a limit; more features are measured in several passes."""

Show = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """What the service says about the rows."""

    tables: Mapping[QueryType, Table]
    bounds: Mapping[str, Bounds]
    """Of the features that may be used."""
    missing: frozenset[str]
    """Features that do not apply to some response that is not empty."""
    several_references: frozenset[int]
    """Rows of which the best of several references counted."""
    notices: Sequence[str] = field(default_factory=tuple)


def usable(info: Info, only: Sequence[str] | None, excluded: Sequence[str]) -> list[FeatureInfo]:
    """The features that the service can measure for a recipe; not constants and gold scores.

    Raises FileError for a name that the service does not know, and for a service that does not describe features.
    """
    if not any(feature.needs for feature in info.features):
        raise FileError(f"the service (version {info.version}) does not say what features need: update it")
    known = {feature.name for feature in info.features}
    for name in [*(only or ()), *excluded]:
        if name not in known:
            raise FileError(f"the service has no feature {name!r}; it has {', '.join(sorted(known))}")
    return [
        feature
        for feature in info.features
        if feature.needs not in ("nothing", "gold")
        and (feature.needs != "encoder" or info.relevance is not None)
        and (only is None or feature.name in only)
        and feature.name not in excluded
    ]


def base_recipe(info: Info, name: str | None) -> RecipeInfo:
    """The recipe that says how a response is read. Raises RewardError, and FileError unless it has _PLAIN."""
    usable = [one.name for one in info.recipes if not one.needs_encoder or info.relevance is not None]
    wanted = name or (_BASE if _BASE in usable else next(iter(usable), info.default_recipe))
    found = find_recipe(info, wanted)
    for parameter, value in _PLAIN.items():
        if found.parameters.get(parameter, value) != value:
            raise FileError(
                f"recipe {wanted} cannot be the base: its {parameter} is {found.parameters[parameter]}, and "
                f"features are measured with {value}; choose another --base-recipe"
            )
    return found


def measure(
    client: RewardClient,
    info: Info,
    rows: Sequence[Row],
    features: Sequence[FeatureInfo],
    base: RecipeInfo,
    folder: Path,
    show: Show,
    **options: Any,
) -> Measured:
    """Score the rows. Raises FileError and RewardError; `options` are those of `score_file`."""
    source = folder / "rows.jsonl"
    replace_text(source, "".join(f"{_line(n, row)}\n" for n, row in enumerate(rows)))
    gold = any(row.gold is None for row in rows)
    names = [feature.name for feature in features]
    collected = _Collected(rows)
    for number, start in enumerate(range(0, len(names), _FEATURES_A_REQUEST), 1):
        part = names[start : start + _FEATURES_A_REQUEST]
        factors = [{"feature": name, "otherwise": _LENGTH} for name in part]
        overrides = {"open_ended": factors, "closed_ended": factors, "reward_range": [0.0, 1.0]}
        score = {"recipe": base.name, "recipe_overrides": overrides, "gold": gold and number == 1, **options}
        for line in _scored(client, source, folder / f"features-{number}.jsonl", show, score):
            collected.add_features(line, part)
    for recipe in (one for one in info.recipes if one.name in COMPARED):
        if recipe.needs_encoder and info.relevance is None:
            collected.notices.append(f"not compared with {recipe.name}: it needs a relevance encoder")
            continue
        score = {"recipe": recipe.name, **options}
        for line in _scored(client, source, folder / f"rewards-{recipe.name}.jsonl", show, score):
            collected.add_reward(line, recipe.name)
    return collected.measured({feature.name: _bounds(feature) for feature in features})


def _line(n: int, row: Row) -> str:
    fields = row.item.model_dump(mode="json", exclude_none=True, exclude={"id"}) | {"row": n, "from": row.where}
    return json.dumps(fields if row.gold is None else fields | {"gold": row.gold}, ensure_ascii=False)


def _scored(
    client: RewardClient, source: Path, target: Path, show: Show, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for progress in score_file(client, source, target, **options):
        show(f"{target.stem}: {progress}")
        yield from (dict(line) for line in progress.lines)


def _bounds(feature: FeatureInfo) -> Bounds:
    low, high = feature.range or (-math.inf, math.inf)
    return (0.0, high) if feature.name in _RELEVANCE else (low, high)


class _Collected:
    """Arrays that are filled line by line."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._n = len(rows)
        self._gold = np.array([math.nan if row.gold is None else row.gold for row in rows])
        prompts: dict[str, int] = {}
        self._prompt = np.array([prompts.setdefault(row.prompt, len(prompts)) for row in rows], np.int64)
        self._features: dict[str, FloatArray] = {}
        self._rewards: dict[str, FloatArray] = {}
        self._empty = np.zeros(self._n, bool)
        self._types: list[QueryType] = [QueryType.OPEN_ENDED] * self._n
        self._several: set[int] = set()
        self.notices: list[str] = []

    def add_features(self, line: Mapping[str, Any], names: Sequence[str]) -> None:
        row, result = line["row"], line["result"]
        for name in names:
            value = result["features"].get(name)
            if value is not None and name in _RELEVANCE:
                value = max(0.0, value)
            self._of(self._features, name)[row] = math.nan if value is None else value
        self._of(self._rewards, LONGEST)[row] = result["features"][_LENGTH]
        self._types[row] = QueryType(result["query_type"])
        self._empty[row] = "empty" in result["flags"]
        if any(flag.startswith("best_reference_") for flag in result["flags"]):
            self._several.add(row)
        if result["gold_reward"] is not None and math.isnan(self._gold[row]):
            self._gold[row] = result["gold_reward"]

    def add_reward(self, line: Mapping[str, Any], name: str) -> None:
        self._of(self._rewards, name)[line["row"]] = line["result"]["reward"]

    def _lowest(self, name: str) -> float:
        """A plug-in may be below the range that it states; only gates can be used then."""
        return float(np.nanmin(self._features[name], initial=math.inf))

    def _of(self, arrays: dict[str, FloatArray], name: str) -> FloatArray:
        return arrays.setdefault(name, np.full(self._n, math.nan))

    def measured(self, bounds: Mapping[str, Bounds]) -> Measured:
        table = Table(self._prompt, self._gold, self._features, self._empty, self._rewards, np.arange(self._n))
        types = np.array([one.value for one in self._types])
        return Measured(
            {kind: table.take(types == kind.value) for kind in QueryType if (types == kind.value).any()},
            {name: (min(low, self._lowest(name)), high) for name, (low, high) in bounds.items()},
            frozenset(name for name, values in self._features.items() if np.isnan(values[~self._empty]).any()),
            frozenset(self._several),
            self.notices,
        )
