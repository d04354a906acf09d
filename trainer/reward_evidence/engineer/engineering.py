"""Measured rows ─▶ fitted recipe with its held-out figures, by query type and together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from reward_client.rows import FileError
from reward_client.wire import QueryType, RecipeInfo
from reward_evidence.engineer import findings
from reward_evidence.engineer.findings import ENGINEERED
from reward_evidence.engineer.measure import Measured
from reward_evidence.engineer.product import rewards
from reward_evidence.engineer.ranking import figures
from reward_evidence.engineer.recipe_file import factors_of
from reward_evidence.engineer.result import Comparison, TypeResult
from reward_evidence.engineer.selection import Fitted, Settings, fit_query_type
from reward_evidence.engineer.shapes import formula
from reward_evidence.engineer.table import FloatArray, Table

MIN_PROMPTS = 20
"""Prompts with responses that gold ranks, below which a query type is not fitted."""

ByPrompt = dict[str, FloatArray]


@dataclass(frozen=True)
class Engineering:
    """Recipe and figures."""

    types: Mapping[QueryType, TypeResult]
    overall: Comparison
    rewards: FloatArray
    """(N,), by input row: of the recipe, NaN for query types that were not fitted."""


def engineer(
    measured: Measured, base: RecipeInfo, settings: Settings, progress: Callable[[str], None]
) -> Engineering:
    """Fit every query type that has enough prompts. Raises FileError when none has."""
    results: dict[QueryType, TypeResult] = {}
    collected: list[tuple[ByPrompt, ByPrompt]] = []
    n_rows = sum(len(table) for table in measured.tables.values())
    found = np.full(n_rows, np.nan)
    reasons = {kind: _not_fittable(measured.tables.get(kind), kind) for kind in QueryType}
    if all(reasons.values()):
        raise FileError("; ".join(filter(None, (reasons[kind] for kind in measured.tables))))
    for kind in QueryType:
        table, reason = measured.tables.get(kind), reasons[kind]
        if table is None or reason is not None:
            results[kind] = _copied(kind, table, base, reason or "")
            continue
        fitted = fit_query_type(table, measured.bounds, settings, partial(_progress, progress, kind))
        if not fitted.branch.terms:
            reason = f"{_named(kind)}: no feature differs between the responses to a prompt as gold does"
            reasons[kind], results[kind] = reason, _copied(kind, table, base, reason)
            continue
        accuracy, correlation = findings.by_prompt(table, fitted, settings.seed)
        collected.append((accuracy, correlation))
        compared = comparison(accuracy, correlation, settings)
        results[kind] = _type_result(table, fitted, measured, settings, compared)
        found[table.row] = rewards(fitted.branch.terms, table)
    if not collected:
        raise FileError("; ".join(filter(None, (reasons[kind] for kind in measured.tables))))
    accuracy, correlation = (_joined([one[i] for one in collected]) for i in (0, 1))
    return Engineering(results, comparison(accuracy, correlation, settings), found)


def _joined(parts: Sequence[ByPrompt]) -> ByPrompt:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def comparison(accuracy: ByPrompt, correlation: ByPrompt, settings: Settings) -> Comparison:
    """Means over prompts, and the fitted recipe's gains, paired by prompt."""
    gains = [
        figures(
            {name: of[ENGINEERED] - values for name, values in of.items() if name != ENGINEERED}, settings.seed
        )
        for of in (accuracy, correlation)
    ]
    return Comparison(figures(accuracy, settings.seed), figures(correlation, settings.seed), gains[0], gains[1])


def _progress(show: Callable[[str], None], kind: QueryType, text: str) -> None:
    show(f"{kind.value}: {text}")


def _type_result(
    table: Table, fitted: Fitted, measured: Measured, settings: Settings, compared: Comparison
) -> TypeResult:
    seed, terms = settings.seed, fitted.branch.terms
    return TypeResult(
        n_rows=len(table),
        n_prompts=_n_ranked(table),
        formula=formula(terms),
        factors=factors_of(terms, measured.missing),
        comparison=compared,
        features=findings.features(table, fitted, measured.bounds, seed),
        fold_formulas=[formula(fold.branch.terms) for fold in fitted.folds],
        accuracy_by_size=fitted.accuracy_by_size,
        curves=findings.curves(table, terms),
        calibration=findings.calibration(table, fitted, seed),
        disagreements=findings.disagreements(table, fitted, seed),
    )


def _copied(kind: QueryType, table: Table | None, base: RecipeInfo, reason: str) -> TypeResult:
    factors: Sequence[Any] = base.parameters[kind.value]
    n_rows = 0 if table is None else len(table)
    n_prompts = 0 if table is None else _n_ranked(table)
    return TypeResult(n_rows, n_prompts, base.formula.get(kind.value, ""), factors, not_fitted=reason)


def _not_fittable(table: Table | None, kind: QueryType) -> str | None:
    """Why a query type cannot be fitted; None if it can."""
    name = _named(kind)
    if table is None:
        return f"{name}: the input has no such rows"
    if table.n_prompts == len(table):
        return f"{name}: each of the {len(table)} prompts has one response, and ranks need several to a prompt"
    n = _n_ranked(table)
    if n == 0:
        return (
            f"{name}: gold is the same for all responses to each of {table.n_prompts} prompts, so it ranks nothing"
        )
    if n < MIN_PROMPTS:
        return f"{name}: gold ranks the responses to {n} prompts, at least {MIN_PROMPTS} are required"
    return None


def _n_ranked(table: Table) -> int:
    """Prompts with two different gold scores."""
    low, high = np.full(table.n_prompts, np.inf), np.full(table.n_prompts, -np.inf)
    np.minimum.at(low, table.prompt, table.gold)
    np.maximum.at(high, table.prompt, table.gold)
    return int((high > low).sum())


def _named(kind: QueryType) -> str:
    return kind.value.replace("_", "-")
