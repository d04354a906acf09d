"""One scorer for a whole file: its rewards are comparable only if recipe and models are the same for all rows."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reward_client.rows import FileError
from reward_client.score_call import DATASET_FLAGS
from reward_client.wire import ItemResult, ScoreReply

_TOLERANCE = 1e-3
"""Relative or absolute difference up to which two rewards of one item count as equal."""


def scorer_of(reply: ScoreReply) -> dict[str, Any]:
    """Recipe and models, which two rewards must share to be comparable."""
    return {"recipe": reply.recipe.model_dump(mode="json"), "models": reply.models.fields()}


def scorer_of_lines(target: Path, lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Recipe and models of `lines`; None for an empty list. Raises FileError when they differ."""
    scorers = [{key: line["scored_by"].get(key) for key in ("recipe", "models")} for line in lines]
    for scorer in scorers:
        check_same_scorer(target, scorers[0], scorer)
    return scorers[0] if scorers else None


def check_same_scorer(target: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise FileError when the scorer of new rewards is not the one before."""
    if before != now:
        raise FileError(
            f"{target} has rewards of {_describe(before)}; this run would add rewards of {_describe(now)}. "
            "Use the same options as before, another output file, or --overwrite."
        )


def check_same_result(target: Path, before: dict[str, Any], now: ItemResult) -> None:
    """Raise FileError when an item, scored again, has another reward, or was found in a data set and is not now.

    A reward also depends on what the file does not record, as the default query type and the data set.
    """
    reward = before.get("reward")
    if reward is None or now.reward is None:
        return
    kinds = [_kind(before.get("query_type"), before.get("flags", ())), _kind(now.query_type, now.flags)]
    if kinds[0] != kinds[1] or not math.isclose(reward, now.reward, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        raise FileError(
            f"an item of {target} has the reward {reward} as {kinds[0]}, and now the reward {now.reward} as "
            f"{kinds[1]}. Use the same options as before, another output file, or --overwrite."
        )


def _kind(query_type: str | None, flags: Iterable[str]) -> str:
    return ", ".join([str(query_type), *sorted(DATASET_FLAGS.intersection(flags))])


def _describe(scorer: dict[str, Any]) -> str:
    recipe, models = scorer["recipe"] or {}, scorer["models"] or {}
    named = {models[kind]: models.get(f"{kind}_revision") for kind in ("relevance", "gold") if models.get(kind)}
    named |= models.get("golds") or {}
    used = [f"{model} (weights {str(revision)[:12]})" for model, revision in named.items()]
    return f"recipe {recipe.get('name')} ({recipe.get('hash')}) with {' and '.join(used) or 'no model'}"
