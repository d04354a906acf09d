"""Nested cross-validation by prompt: the number of factors inside, the reported figures outside.

    all prompts ─▶ K outer folds: fit_branch on the others ─▶ rewards of the fold     nothing here was fitted on it
    fit_branch  ─▶ K inner folds: path on the others ─▶ accuracy by number of factors ─▶ path on all, finish

The recipe that is written is `fit_branch` on all prompts; its figures are those of the procedure on (K - 1) / K.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reward_evidence.engineer.design import Design, Fit, design, design_of, fit
from reward_evidence.engineer.finish import Terms, finish
from reward_evidence.engineer.pairs import pairs_of, used_rows
from reward_evidence.engineer.path import path
from reward_evidence.engineer.product import LogTable, likelihood, log_rewards, rewards
from reward_evidence.engineer.shapes import Bounds
from reward_evidence.engineer.table import FloatArray, IntArray, Table

Progress = Callable[[str], None]

_TIE = 1e-9
"""Difference of log rewards up to which two responses tie."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a recipe is fitted."""

    max_factors: int = 6
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Branch:
    """The factors of one query type."""

    terms: Terms
    scale: float
    """See `Likelihood.scale`."""


@dataclass(frozen=True)
class Fold:
    """One outer fold."""

    branch: Branch
    held_out: IntArray
    """Rows of the table."""
    without: Mapping[str, FloatArray]
    """By feature of the branch: rewards of the held-out rows without its factor, the powers fitted again."""


@dataclass(frozen=True)
class Fitted:
    """A fitted query type."""

    branch: Branch
    folds: list[Fold]
    held_out_rewards: FloatArray
    """(N,): each by the recipe of the folds that the row's prompt is not in."""
    held_out_scores: FloatArray
    """(N,): log rewards times the scale of that recipe; differences are log odds."""
    accuracy_by_size: list[float]
    """Of 1, 2, … factors, in the inner folds of the final fit."""


def fold_of(n_prompts: int, folds: int, seed: int) -> IntArray:
    """(G,): the fold of each prompt; sizes differ by one at most."""
    return np.random.default_rng(seed).permutation(np.arange(n_prompts) % folds).astype(np.int64)


def fit_query_type(table: Table, bounds: Mapping[str, Bounds], settings: Settings, progress: Progress) -> Fitted:
    """Fit on all rows, and in outer folds for the figures."""
    fold = fold_of(table.n_prompts, settings.folds, settings.seed)[table.prompt]
    held_out, scores = np.zeros(len(table)), np.zeros(len(table))
    folds = []
    for k in range(settings.folds):
        progress(f"fold {k + 1} of {settings.folds}")
        train, test = table.take(fold != k), table.take(fold == k)
        fitting = _Fitting(train, bounds, settings)
        branch, _ = fitting.branch()
        rows = np.flatnonzero(fold == k)
        held_out[rows] = rewards(branch.terms, test)
        scores[rows] = branch.scale * log_rewards(branch.terms, test)
        without = {
            term.shape.feature: rewards(fitting.without(branch.terms, i), test)
            for i, term in enumerate(branch.terms)
        }
        folds.append(Fold(branch, rows, without))
    progress("all prompts")
    branch, by_size = _Fitting(table, bounds, settings).branch()
    return Fitted(branch, folds, held_out, scores, by_size)


class _Fitting:
    """Fits on the rows of one table."""

    def __init__(self, table: Table, bounds: Mapping[str, Bounds], settings: Settings) -> None:
        self._settings = settings
        used, self._pairs = used_rows(pairs_of(table.prompt, table.gold, settings.seed), len(table))
        self._logs = LogTable(table.take(used))
        self._design: Design = design(self._logs.table, self._pairs, bounds)

    def branch(self) -> tuple[Branch, list[float]]:
        """The factors, and the accuracy by their number in inner folds; none if no candidate differs in a pair."""
        if not self._design.shapes:
            return Branch((), 0.0), []
        by_size = self._accuracy_by_size()
        size = _smallest_good(by_size)
        models = path(self._design, size)
        terms = self._finished(models[-1], self._design, move=True) if models else ()
        scale = likelihood(self._logs.sum([(t.shape, t.power) for t in terms]), self._pairs).scale
        return Branch(terms, scale), [float(accuracy) for accuracy in by_size.mean(axis=1)]

    def without(self, terms: Terms, i: int) -> Terms:
        """The other terms, with powers that are fitted again."""
        rest = [term.shape for j, term in enumerate(terms) if j != i]
        if not rest:
            return ()
        of = design_of(rest, self._logs.table, self._pairs)
        return self._finished(fit(of, range(len(of.shapes))), of, move=False)

    def _finished(self, model: Fit, of: Design, *, move: bool) -> Terms:
        shapes = [of.shapes[c] for c in model.columns]
        options = self._design.shapes if move else ()
        return finish(shapes, model.powers(of), self._logs, self._pairs, options)

    def _accuracy_by_size(self) -> FloatArray:
        """Accuracy of 1, 2, … factors for each prompt, in the fold that it is held out in: (S, prompts)."""
        of, settings = self._design, self._settings
        prompts, index = np.unique(of.prompt, return_inverse=True)
        folds = min(settings.folds, len(prompts))
        fold = fold_of(len(prompts), folds, settings.seed + 1)[index]
        won = np.full((settings.max_factors, len(index)), 0.5)
        for k in range(folds):
            test = of.only(fold == k)
            models = path(of.only(fold != k), settings.max_factors)
            for size in range(settings.max_factors if models else 0):
                margin = models[min(size, len(models) - 1)].margin(test)
                won[size, fold == k] = np.where(np.abs(margin) < _TIE, 0.5, margin > 0)
        counts = np.bincount(index)
        return np.stack([np.bincount(index, row) / counts for row in won])


def _smallest_good(by_size: FloatArray) -> int:
    """The smallest number of factors within a standard error, paired by prompt, of the best (Breiman et al.)."""
    best = int(by_size.mean(axis=1).argmax())
    for size in range(best):
        behind = by_size[best] - by_size[size]
        if behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind)):
            return size + 1
    return best + 1
