"""Accuracy on the held-out half of the probe's battery: good responses above gamed and wrong ones, by kind."""

from collections.abc import Sequence
from dataclasses import dataclass

from reward_client.probe.case import embedded_cases
from reward_client.probe.kinds import KINDS, worse_responses
from reward_trainer.gold.preferences import Pair

_SEVERAL = {
    "off_topic": ("off_topic_short", "off_topic_same_length", "off_topic_long"),
    "wrong_answer": ("wrong_answer", "near_number"),
}
"""Kinds of `degrade.py` that cover several of the probe."""


@dataclass(frozen=True)
class KindRow:
    """The pairs of one kind."""

    name: str
    group: str
    n_pairs: int
    n_right: float
    """Pairs whose good response has the higher score; equal scores count a half."""
    fitted_on: bool

    @property
    def accuracy(self) -> float:
        """Share of pairs that are ranked right."""
        return self.n_right / self.n_pairs


def battery_pairs() -> list[Pair]:
    """Return (prompt, good response, worse response) with the kind as the source."""
    return [
        Pair(case.prompt, case.response, text, kind.name)
        for case in embedded_cases("held_out")
        for kind, text in worse_responses(case)
    ]


def kind_rows(pairs: Sequence[Pair], margins: Sequence[float], fitted_kinds: Sequence[str]) -> list[KindRow]:
    """Return a row for each kind of `pairs`.

    Args:
        pairs: of `battery_pairs`.
        margins: score(good) − score(worse) of each.
        fitted_kinds: of `degrade.kinds`, those that the model was fitted on.
    """
    rows, seen = [], {name for kind in fitted_kinds for name in _SEVERAL.get(kind, (kind,))}
    for name, kind in KINDS.items():
        wins = [(m > 0) + (m == 0) / 2 for pair, m in zip(pairs, margins, strict=True) if pair.source == name]
        if wins:
            rows.append(KindRow(name, kind.group, len(wins), sum(wins), name in seen))
    return rows


def mean_accuracy(rows: Sequence[KindRow]) -> float | None:
    """Return the mean over kinds; None without rows."""
    return sum(row.accuracy for row in rows) / len(rows) if rows else None
