"""The distributions of the rewards at the first and the last checkpoint, as data. Pure; `plots` draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.by_prompt import Measure

_BINS = (8, 30)
"""Fewest and most bins."""


@dataclass(frozen=True)
class HistogramPanel:
    """One chart with the histograms of two checkpoints over the same bins."""

    name: str
    """File name of the PNG, without suffix."""
    title: str
    x_label: str
    y_label: str
    note: str
    edges: Sequence[float]
    """Edges of the bins, one more than bins."""
    shares: tuple[Sequence[float], Sequence[float]]
    """Share of the responses in each bin: first, last checkpoint."""
    labels: tuple[str, str]
    role: Literal["proxy", "gold"]
    """`proxy` or `gold`, which determines the colour."""
    means: tuple[float, float]

    @property
    def alt(self) -> str:
        """Alternative text."""
        return (
            f"{self.title}. Share of responses against {self.x_label}. "
            f"Mean {self.means[0]:.3g} first, {self.means[1]:.3g} last."
        )


def distribution_panels(
    first: Sequence[EvaluatedResponse], last: Sequence[EvaluatedResponse], steps: tuple[int, int]
) -> list[HistogramPanel]:
    """A panel for the proxy, and one for gold if all responses have it; none without a second checkpoint."""
    if steps[0] == steps[1]:
        return []
    wanted: list[tuple[Literal["proxy", "gold"], str, Measure]] = [
        ("proxy", "Proxy rewards of the responses", lambda r: r.proxy_reward),
        ("gold", "Gold rewards of the responses", lambda r: r.gold_reward),
    ]
    panels = []
    for role, title, measure in wanted:
        before, after = ([v for r in rows if (v := measure(r)) is not None] for rows in (first, last))
        if len(before) == len(first) and len(after) == len(last):
            panels.append(_panel(role, title, before, after, steps))
    return panels


def _panel(
    role: Literal["proxy", "gold"],
    title: str,
    first: Sequence[float],
    last: Sequence[float],
    steps: tuple[int, int],
) -> HistogramPanel:
    both = np.array([*first, *last])
    n_bins = min(max(len(np.histogram_bin_edges(both, "sqrt")) - 1, _BINS[0]), _BINS[1])
    edges = np.histogram_bin_edges(both, n_bins)
    counts = [np.histogram(values, edges)[0] / len(values) for values in (first, last)]
    return HistogramPanel(
        name=f"{role}_distribution",
        title=title,
        x_label=f"{role} reward",
        y_label="share of responses",
        note=f"{len(last)} responses a checkpoint" if len(first) == len(last) else "shares of responses",
        edges=edges.tolist(),
        shares=(counts[0].tolist(), counts[1].tolist()),
        labels=(f"step {steps[0]}", f"step {steps[1]}"),
        role=role,
        means=(fmean(first), fmean(last)),
    )
