"""All responses of the first and the last checkpoint by prompt, for the page's list. Pure.

The list is bounded in prompts and in bytes. Where not all prompts fit, evenly spaced ones in the order of the
prompts file are shown: a choice by reward would show a picture of the run that is too good or too bad.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from reward_client.wire import QueryType
from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.by_prompt import Measure, n_words

MAX_PROMPTS = 2_000
"""More rows make a page slow to open and to search."""

_MEASURES: dict[str, tuple[str, Measure]] = {
    "gold": ("gold change", lambda r: r.gold_reward),
    "proxy": ("proxy change", lambda r: r.proxy_reward),
    "words": ("length change", n_words),
}
"""What prompts can be ordered by: name, title, measure."""


@dataclass(frozen=True)
class PromptRow:
    """One prompt with all its responses."""

    index: int
    """Position in the prompts file, from 0."""
    first: list[EvaluatedResponse]
    """Samples of the first checkpoint; empty where only one was evaluated."""
    last: list[EvaluatedResponse]
    changes: Mapping[str, float]
    """Change of the mean over samples, by name of `orders`."""

    @property
    def prompt(self) -> str:
        """The prompt's text."""
        return self.last[0].prompt

    @property
    def query_type(self) -> QueryType:
        """The prompt's query type."""
        return self.last[0].query_type

    @property
    def gold_change(self) -> float | None:
        """None without a gold reward or an earlier checkpoint."""
        return self.changes.get("gold")

    @property
    def proxy_change(self) -> float | None:
        """None without an earlier checkpoint."""
        return self.changes.get("proxy")

    @property
    def pairs(self) -> list[tuple[EvaluatedResponse | None, EvaluatedResponse | None]]:
        """(first, last) by sample."""
        return list(zip_longest(self.first, self.last))


def prompt_rows(first: Sequence[EvaluatedResponse], last: Sequence[EvaluatedResponse]) -> list[PromptRow]:
    """Group the responses of two checkpoints by prompt, in the order of `last`; `first` may be empty."""
    before, after = _by_prompt(first), _by_prompt(last)
    return [
        PromptRow(index, before.get(prompt_id, []), samples, _changes(before.get(prompt_id, []), samples))
        for index, (prompt_id, samples) in enumerate(after.items())
    ]


def orders(rows: Sequence[PromptRow]) -> dict[str, str]:
    """Name and title of each change that every row has."""
    return {name: title for name, (title, _) in _MEASURES.items() if all(name in row.changes for row in rows)}


def spaced(n: int, of: int) -> list[int]:
    """`n` evenly spaced indices below `of`, the first and the last among them if `n` is 2 or more."""
    if n >= of:
        return list(range(of))
    return [0] if n == 1 else [i * (of - 1) // (n - 1) for i in range(n)]


def fitting(sizes: Sequence[int], limit: int) -> list[int]:
    """Indices of evenly spaced items, as many as fit into `limit`; `sizes` are those of the items."""
    n = len(sizes)
    while n and (total := sum(sizes[i] for i in spaced(n, len(sizes)))) > limit:
        n = min(n - 1, n * max(limit, 0) // total)
    return spaced(n, len(sizes)) if n else []


def note(n_shown: int, n_all: int) -> str:
    """State which prompts are shown."""
    if n_shown == n_all:
        return f"All {n_all} prompts with all samples."
    return (
        f"{n_shown:,} of {n_all:,} prompts, evenly spaced in the prompts file, because the page has a limit of "
        "size; all responses are in evaluation/."
    )


def _by_prompt(responses: Sequence[EvaluatedResponse]) -> dict[str, list[EvaluatedResponse]]:
    found: dict[str, list[EvaluatedResponse]] = {}
    for response in responses:
        found.setdefault(response.prompt_id, []).append(response)
    return found


def _changes(first: Sequence[EvaluatedResponse], last: Sequence[EvaluatedResponse]) -> dict[str, float]:
    found = {}
    for name, (_, measure) in _MEASURES.items():
        means = [_mean(responses, measure) for responses in (first, last)]
        if means[0] is not None and means[1] is not None:
            found[name] = means[1] - means[0]
    return found


def _mean(responses: Sequence[EvaluatedResponse], measure: Measure) -> float | None:
    values = [value for response in responses if (value := measure(response)) is not None]
    return sum(values) / len(values) if values else None
