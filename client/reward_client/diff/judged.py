"""Rows scored by two recipes, and grouped by prompt.

IN.jsonl ─▶ read_items ─▶ Judge.batches: recipe A, then recipe B on the rows that A scored ─▶ [Judged] ─▶ groups()
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_client.client import RewardClient
from reward_client.diff.recipe import RecipeChoice
from reward_client.errors import RewardError
from reward_client.notices import join_notices
from reward_client.operations import check_same_reward
from reward_client.score_file import ItemRow, Progress, ScoredBatch, score_batches
from reward_client.wire import Item, ItemResult, ScoreReply

_EXACT = 1e-6
"""Relative difference up to which the parts of a reward count as its sum."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The reward of a row by one recipe."""

    reward: float
    parts: Mapping[str, float]
    """By feature; they sum to the reward minus a number that is the same for all responses to a prompt."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A row with its rewards by both recipes."""

    number: int
    """In the input."""
    item: Item
    query_type: str
    golds: Mapping[str, float]
    """Gold rewards by model, the primary one first; empty without gold."""
    a: Judgement
    b: Judgement

    @property
    def gold(self) -> float | None:
        """Of the primary gold model."""
        return next(iter(self.golds.values()), None)


Group = Sequence[Judged]
"""Responses that are compared with each other."""


class Judge:
    """Scores rows by two recipes with the same options."""

    def __init__(
        self, client: RewardClient, source: Path, a: RecipeChoice, b: RecipeChoice, **options: Any
    ) -> None:
        self._client = client
        self._source = source
        self._choices = (a, b)
        self._options = options
        self.replies: list[ScoreReply | None] = [None, None]
        """The first reply of each recipe: its name, hash and models."""
        self.notices: list[str] = []
        self.n_other_types = 0
        """Rows whose query type differs between the recipes, because the recipes have different defaults."""

    def judged(
        self, rows: Sequence[ItemRow], *, batch: int, keep_going: bool, gold: bool
    ) -> Iterator[tuple[Progress, list[Judged]]]:
        """The rows of each batch with their rewards. Raises FileError and RewardError."""
        started, done = time.monotonic(), 0
        for start in range(0, len(rows), batch):
            chunk = rows[start : start + batch]
            first = self._score(0, chunk, keep_going=keep_going, gold=gold)
            primary = (first.reply.models.gold if first.reply is not None else None) or ""
            second = self._score(1, [row for row, _ in first.results], keep_going=keep_going, gold=False)
            by_b = {row.number: result for row, result in second.results}
            pairs = [(row, result, by_b[row.number]) for row, result in first.results if row.number in by_b]
            self.n_other_types += sum(a.query_type != b.query_type for _, a, b in pairs)
            done += len(chunk)
            rate = done / max(time.monotonic() - started, 1e-9)
            wrong = [*first.wrong, *second.wrong]
            yield Progress(done, len(rows), rate, wrong=wrong), [_judged(*pair, primary) for pair in pairs]

    def _score(self, which: int, rows: Sequence[ItemRow], *, keep_going: bool, gold: bool) -> ScoredBatch:
        """The rewards of one recipe for a batch."""
        if not rows:
            return ScoredBatch([], None, [])
        options = self._options | self._choices[which].options
        batches = score_batches(
            self._client,
            self._source,
            rows,
            batch=len(rows),
            keep_going=keep_going,
            gold=gold,
            explain=True,
            **options,
        )
        (scored,) = batches  # after what had been received of a batch, an error is raised
        if scored.reply is not None:
            self._check(which, scored.reply)
            self.notices = join_notices(self.notices, scored.reply.notices)
        return scored

    def _check(self, which: int, reply: ScoreReply) -> None:
        first = self.replies[which]
        if first is None:
            self.replies[which] = reply.model_copy(update={"results": [], "rewards": []})
        else:
            check_same_reward(first, reply)


def _judged(row: ItemRow, a: ItemResult, b: ItemResult, primary: str) -> Judged:
    golds = a.golds or ({} if a.gold_reward is None else {primary: a.gold_reward})
    return Judged(row.number, row.item, str(a.query_type), golds, _judgement(a), _judgement(b))


def _judgement(result: ItemResult) -> Judgement:
    found = result.attribution
    if result.reward is None or found is None:
        raise RewardError("the service returned no attribution: it is older than release 0.2; update it")
    total = found.baseline_reward + sum(found.parts.values())
    if abs(total - result.reward) > _EXACT * max(1.0, abs(result.reward)):
        raise RewardError(f"the parts of a reward sum to {total:g}, and the reward is {result.reward:g}")
    return Judgement(result.reward, found.parts)


def groups(rows: Sequence[Judged]) -> list[list[Judged]]:
    """The rows by prompt, in the order of the input. The same prompt with another reference is another group."""
    found: dict[str, list[Judged]] = {}
    for row in rows:
        key = f"{row.query_type} {row.item.model_dump_json(include={'prompt', 'reference'})}"
        found.setdefault(key, []).append(row)
    return list(found.values())
