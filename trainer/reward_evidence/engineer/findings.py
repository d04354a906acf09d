"""What a fitted query type shows: figures, each feature, curves, calibration, disagreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from reward_evidence.engineer.pairs import Pairs, pairs_of
from reward_evidence.engineer.ranking import accuracy_by_prompt, correlation_by_prompt
from reward_evidence.engineer.selection import Fitted
from reward_evidence.engineer.shapes import Bounds, Term
from reward_evidence.engineer.table import FloatArray, IntArray, Table
from reward_evidence.statistics.monotonicity import Estimate, estimate

ENGINEERED = "engineered"
_EVALUATED_PAIRS = 200_000
_BINS = 8
_LEAST_IN_BIN = 5
_DISAGREEMENTS = 6
_POINTS = 101
"""Points of a factor's curve; so many are drawn without markers."""
_QUANTITY = 1.0
"""A feature whose range exceeds it is an amount, like words, which a policy can raise without end."""


@dataclass(frozen=True, slots=True)
class FeatureFinding:
    """One feature and gold, within prompts."""

    name: str
    share_of_rows: float
    """Rows that it applies to."""
    prefers: Estimate | None
    """Share of pairs with different values in which gold prefers the higher one; null without such pairs."""
    prefers_more_of_much: Estimate | None
    """The same among pairs with both values above the upper quartile."""
    in_folds: int
    """Outer folds whose recipe has it."""
    adds: Estimate | None
    """Held-out accuracy that is lost without its factor; null where no fold has it."""
    is_amount: bool


@dataclass(frozen=True, slots=True)
class Point:
    """Of one bin."""

    x: float
    y: float
    low: float | None
    high: float | None
    n: int
    """Rows, or pairs."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A factor of the recipe by its feature, and gold by the same feature."""

    feature: str
    factor: list[tuple[float, float]]
    gold: list[Point]
    """Mean of gold within prompts, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two responses that the held-out recipe and gold rank in opposite order; indices of input rows."""

    preferred_by_gold: int
    preferred_by_recipe: int
    gold: tuple[float, float]
    reward: tuple[float, float]
    """In that order."""


def by_prompt(table: Table, fitted: Fitted, seed: int) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Accuracy and rank correlation by prompt (G,) of the held-out rewards and of the rewards to compare."""
    pairs = evaluated_pairs(table, seed)
    compared = {ENGINEERED: fitted.held_out_rewards, **table.rewards}
    accuracy = {name: accuracy_by_prompt(reward, pairs, table.n_prompts) for name, reward in compared.items()}
    correlation = {
        name: correlation_by_prompt(reward, table.gold, table.prompt) for name, reward in compared.items()
    }
    return accuracy, correlation


def evaluated_pairs(table: Table, seed: int) -> Pairs:
    """The pairs that figures are about."""
    return pairs_of(table.prompt, table.gold, seed, _EVALUATED_PAIRS)


def features(table: Table, fitted: Fitted, bounds: Mapping[str, Bounds], seed: int) -> list[FeatureFinding]:
    """All features, those that add most first."""
    pairs = evaluated_pairs(table, seed)
    full = accuracy_by_prompt(fitted.held_out_rewards, pairs, table.n_prompts)
    found = []
    for name, (_, highest) in bounds.items():
        x = table.features[name]
        folds = [fold for fold in fitted.folds if name in fold.without]
        without = fitted.held_out_rewards.copy()
        for fold in folds:
            without[fold.held_out] = fold.without[name]
        lost = full - accuracy_by_prompt(without, pairs, table.n_prompts)
        known = x[~np.isnan(x)]
        much = float(np.quantile(known, 0.75)) if len(known) else 0.0
        found.append(
            FeatureFinding(
                name=name,
                share_of_rows=len(known) / len(x),
                prefers=_prefers(x, pairs, table.n_prompts),
                prefers_more_of_much=_prefers(np.where(x > much, x, np.nan), pairs, table.n_prompts),
                in_folds=len(folds),
                adds=estimate(lost[~np.isnan(lost)]) if folds else None,
                is_amount=highest > _QUANTITY,
            )
        )
    return sorted(found, key=lambda one: one.adds.mean if one.adds else -1.0, reverse=True)


def _prefers(x: FloatArray, pairs: Pairs, n_prompts: int) -> Estimate | None:
    difference = x[pairs.better] - x[pairs.worse]
    differ = np.isfinite(difference) & (difference != 0)
    if not differ.any():
        return None
    of = pairs.prompt[differ]
    won, counts = np.bincount(of, difference[differ] > 0, n_prompts), np.bincount(of, minlength=n_prompts)
    return estimate((won[counts > 0] / counts[counts > 0]).astype(np.float64))


def curves(table: Table, terms: Sequence[Term]) -> list[Curve]:
    """One for each factor of the recipe."""
    within = _standardised(table)
    found = []
    for term in terms:
        x = table.features[term.shape.feature]
        has = ~np.isnan(x)
        low, high = np.quantile(x[has], [0.01, 0.99])
        if low == high:
            low, high = x[has].min(), x[has].max()
        places = np.linspace(low, high, _POINTS)
        factor = np.power(term.shape.apply(places), term.power)
        points = list(zip(places.tolist(), factor.tolist(), strict=True))
        found.append(Curve(term.shape.feature, points, _binned(x[has], within[has], table.prompt[has])))
    return found


def _standardised(table: Table) -> FloatArray:
    """Gold minus the prompt's mean, over the prompt's standard deviation, (N,); 0 where gold is constant."""
    n = np.bincount(table.prompt)
    centred = table.gold - (np.bincount(table.prompt, table.gold) / n)[table.prompt]
    spread = np.sqrt(np.bincount(table.prompt, centred**2) / n)[table.prompt]
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)


def _binned(x: FloatArray, y: FloatArray, prompt: IntArray) -> list[Point]:
    """Means of each value if there are few, else in bins of equal numbers; the intervals are over prompts."""
    known, bins = np.unique(x, return_inverse=True)
    if len(known) > _BINS:
        edges = np.unique(np.quantile(x, np.linspace(0, 1, _BINS + 1)))
        bins = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(0, len(edges) - 2))
    points = []
    for b in np.unique(bins):
        inside = bins == b
        if inside.sum() < _LEAST_IN_BIN:
            continue
        _, index = np.unique(prompt[inside], return_inverse=True)
        means = estimate(np.bincount(index, y[inside]) / np.bincount(index))
        points.append(Point(float(x[inside].mean()), means.mean, means.low, means.high, int(inside.sum())))
    return points


def calibration(table: Table, fitted: Fitted, seed: int) -> list[Point]:
    """Chance that gold prefers the response with the higher reward: expected by the fit, and held out."""
    pairs = evaluated_pairs(table, seed)
    difference = fitted.held_out_scores[pairs.better] - fitted.held_out_scores[pairs.worse]
    expected, agreed = expit(np.abs(difference)), (difference > 0).astype(np.float64)
    differ = difference != 0
    return _binned(expected[differ], agreed[differ], pairs.prompt[differ]) if differ.any() else []


def disagreements(table: Table, fitted: Fitted, seed: int) -> list[Disagreement]:
    """Of each prompt the pair that recipe and gold disagree on most; the prompts with the largest ones."""
    pairs = evaluated_pairs(table, seed)
    within = _standardised(table)
    score = fitted.held_out_scores[pairs.worse] - fitted.held_out_scores[pairs.better]
    size = np.where(score > 0, np.minimum(score, 10.0) * (within[pairs.better] - within[pairs.worse]), 0.0)
    found: list[Disagreement] = []
    shown: set[int] = set()
    for k in np.argsort(-size, kind="stable"):
        if size[k] <= 0 or len(found) == _DISAGREEMENTS:
            break
        if int(pairs.prompt[k]) in shown:
            continue
        shown.add(int(pairs.prompt[k]))
        better, worse = int(pairs.better[k]), int(pairs.worse[k])
        reward = fitted.held_out_rewards
        found.append(
            Disagreement(
                int(table.row[better]),
                int(table.row[worse]),
                (float(table.gold[better]), float(table.gold[worse])),
                (float(reward[better]), float(reward[worse])),
            )
        )
    return found
