"""The figures of one group of runs: means by step, changes, monotonicity, and what drove the proxy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_evidence.comparison.measures import MEASURES, GroupValues, other_gold
from reward_evidence.statistics.assessment import Assessment
from reward_evidence.statistics.monotonicity import FloatArray, Verdict
from reward_evidence.statistics.pooled import (
    PooledCorrelation,
    PooledEstimate,
    pooled_mean,
    pooled_rank_correlation,
)


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class RunSummary(_Figures):
    """One run, as its evaluation describes it."""

    name: str
    folder: str
    seed: int | None
    steps: list[int]
    headline: str
    assessment: Assessment | None


class StepFigures(_Figures):
    """Means of one step; null where a run did not measure it."""

    step: int
    proxy: PooledEstimate
    gold: PooledEstimate | None
    kl: PooledEstimate | None
    """Nats from the initial policy."""
    words: PooledEstimate
    tokens: PooledEstimate | None
    truncated: PooledEstimate | None
    """Share of responses that the token limit ended."""
    features: dict[str, PooledEstimate]
    """Means over the prompts that have the feature at every step of every run of the group."""


class FactorShare(_Figures):
    """One factor's part of the proxy change."""

    name: str
    n_prompts: int
    """Prompts whose reward has the factor in a run."""
    first: float
    last: float
    """Mean of the factor over these prompts, as it was multiplied."""
    part: PooledEstimate
    share: float | None
    """Part / proxy change; null when the proxy neither rose nor fell clearly."""


class GroupFigures(_Figures):
    """Runs that differ only in their seed."""

    label: str
    recipe: str
    recipe_hash: str
    settings: dict[str, Any] | None
    """What its runs share; null for evaluations without a run's record."""
    runs: list[RunSummary]
    steps: list[StepFigures]
    proxy_change: PooledEstimate | None
    gold_change: PooledEstimate | None
    other_gold_changes: dict[str, PooledEstimate] = {}
    """By the id of a gold model beside the primary one; empty with one step."""
    words_change: PooledEstimate | None
    """From the first step to the last; null with one step."""
    rank_correlation: PooledCorrelation | None
    gold_falls: int | None
    """Steps between checkpoints at which mean gold fell, of `n_steps − 1`."""
    factors: list[FactorShare]
    """By size; their sum is the proxy change."""

    @property
    def first(self) -> StepFigures:
        """The first step."""
        return self.steps[0]

    @property
    def last(self) -> StepFigures:
        """The last step."""
        return self.steps[-1]

    @property
    def n_seeds(self) -> int:
        """Number of runs."""
        return len(self.runs)


def group_figures(values: GroupValues, other_golds: Sequence[str] = ()) -> GroupFigures:
    """Compute the figures of one group, with the changes of `other_golds` beside the primary one."""
    settings = values.runs[0].evaluation.settings
    gold, proxy = values.measures.get("gold"), values.measures["proxy"]
    change = _change(proxy)
    return GroupFigures(
        label=values.label,
        recipe=settings["recipe"],
        recipe_hash=settings["recipe_hash"],
        settings=dict(values.runs[0].settings) if values.runs[0].settings is not None else None,
        runs=[
            RunSummary(
                name=run.name,
                folder=str(run.folder),
                seed=run.seed,
                steps=run.steps,
                headline=run.evaluation.verdict.headline,
                assessment=run.evaluation.verdict.assessment,
            )
            for run in values.runs
        ],
        steps=[_step(values, index) for index in range(len(values.steps))],
        proxy_change=change,
        gold_change=_change(gold),
        other_gold_changes={
            model: found for model in other_golds if (found := _change(values.measures.get(other_gold(model))))
        },
        words_change=_change(values.measures["words"]),
        rank_correlation=None if gold is None else pooled_rank_correlation(proxy, gold),
        gold_falls=None if gold is None else int((np.diff(gold.mean(axis=(0, 2))) < 0).sum()),
        factors=[] if change is None else _factors(values.parts, change),
    )


def _change(values: FloatArray | None) -> PooledEstimate | None:
    return None if values is None or values.shape[1] < 2 else pooled_mean(values[:, -1] - values[:, 0])


def _step(values: GroupValues, index: int) -> StepFigures:
    means = {name: pooled_mean(found[:, index]) for name, found in values.measures.items() if name in MEASURES}
    features = {}
    for name, found in values.features.items():
        has_it = np.isfinite(found).all(axis=(0, 1))
        if has_it.any():
            features[name] = pooled_mean(found[:, index, has_it])
    absent = dict.fromkeys(("gold", "kl", "tokens", "truncated"))
    return StepFigures.model_validate({"step": values.steps[index], "features": features, **absent, **means})


def _factors(parts: Sequence[Mapping[str, FloatArray]], change: PooledEstimate) -> list[FactorShare]:
    """The pooled part of each factor: a prompt without a factor has the part 0."""
    names = dict.fromkeys(name for run in parts for name in run)
    absent = np.full((change.n_prompts, 3), np.nan)
    found = []
    for name in names:
        rows = np.stack([run.get(name, absent) for run in parts])  # (S, N, 3)
        has_it = np.isfinite(rows[:, :, 2])
        part = pooled_mean(np.where(has_it, rows[:, :, 2], 0.0))
        first, last = rows[has_it][:, :2].mean(axis=0)
        found.append(
            FactorShare(
                name=name,
                n_prompts=int(has_it.any(axis=0).sum()),
                first=float(first),
                last=float(last),
                part=part,
                share=None if change.verdict is Verdict.UNDECIDED else part.mean / change.mean,
            )
        )
    return sorted(found, key=lambda factor: -abs(factor.part.mean))
