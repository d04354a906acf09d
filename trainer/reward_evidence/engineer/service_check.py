"""The fitted recipe through the service: its rewards beside those of the fit, and its probe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reward_client import RewardClient
from reward_client.probe.case import EMBEDDED, embedded_cases
from reward_client.probe.report import Report, build
from reward_client.probe.run import probe
from reward_client.probe.scorers import ScoreProtocol
from reward_client.wire import QueryType
from reward_evidence.engineer.result import ProbeKind, ProbeResult, ServiceCheck
from reward_evidence.engineer.rows import Row
from reward_evidence.engineer.table import FloatArray

TOLERANCE = 1e-6
_CHECKED = 256
_BATCH = 64


def check(
    client: RewardClient,
    base: str,
    overrides: Mapping[str, Any],
    rows: Sequence[Row],
    rewards: FloatArray,
    several_references: frozenset[int],
    query_type_default: QueryType | None,
) -> ServiceCheck:
    """Score rows with the recipe and compare. `rewards` (N,) are those of the fit, NaN where there is none.

    Raises RewardError when the service does not accept the recipe.
    """
    fitted = np.flatnonzero(~np.isnan(rewards))
    usable = [int(n) for n in fitted if int(n) not in several_references]
    chosen = usable[:: max(1, math.ceil(len(usable) / _CHECKED))]
    largest, recipe_hash = 0.0, ""
    for start in range(0, len(chosen), _BATCH):
        part = chosen[start : start + _BATCH]
        reply = client.score(
            [rows[n].item for n in part],
            recipe=base,
            recipe_overrides=dict(overrides),
            query_type_default=query_type_default,
        )
        recipe_hash = reply.recipe.hash
        for n, reward in zip(part, reply.rewards, strict=True):
            found = math.inf if reward is None else abs(reward - rewards[n]) / max(1.0, abs(rewards[n]))
            largest = max(largest, float(found))
    return ServiceCheck(len(chosen), largest, recipe_hash, len(fitted) - len(usable))


def probed(
    client: RewardClient,
    base: str,
    overrides: Mapping[str, Any],
    name: str,
    *,
    gold: bool,
    query_types: frozenset[QueryType],
    show: Callable[[str], None],
) -> Report:
    """The probe of the recipe on the embedded prompts of the query types that were fitted."""
    cases = [case for case in embedded_cases() if case.query_type in query_types]
    scorer = ScoreProtocol(client, base, gold=gold, recipe_overrides=overrides)
    pairs = probe(cases, scorer, on_progress=lambda progress: show(f"probe: {progress}"))
    return build(pairs, replace(scorer.subject, recipe=name), EMBEDDED, len(cases))


def probe_result(report: Report) -> ProbeResult:
    """Its figures, and the kinds that recipe or gold fail."""
    kinds = [
        ProbeKind(
            kind.name,
            kind.accuracy,
            kind.gold_accuracy,
            kind.pairs,
            next(iter(kind.to_blame), None),
        )
        for kind in report.kinds
    ]
    return ProbeResult(
        accuracy=report.accuracy,
        gold_accuracy=report.gold_accuracy,
        n_kinds=len(kinds),
        n_pairs=report.n_pairs,
        failing=_worst(kinds, lambda kind: kind.accuracy),
        gold_failing=_worst(kinds, lambda kind: kind.gold_accuracy),
    )


def _worst(kinds: Sequence[ProbeKind], share: Callable[[ProbeKind], float | None]) -> list[ProbeKind]:
    """The kinds in which the worse response wins at least half of the pairs, those with most first."""
    lost = [(accuracy, kind) for kind in kinds if (accuracy := share(kind)) is not None and accuracy <= 0.5]
    return [kind for _, kind in sorted(lost, key=lambda one: one[0])]
