"""Several gold models over the checkpoints: what each says, and whether they agree. Pure.

    scores (T, N) of each model ──▶ means, changes since the first checkpoint, as of the primary one
    changes of two models, last − first by prompt (N,) ──agreement──▶ share with the same sign, Spearman's ρ

Most prompts have the same sign where both models rise, so the share alone says little. ρ is free of that: it
compares which prompts gained more than others, and needs no common scale. No model is chosen by these figures.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_evidence.report.formatting import decimals_for, interval, percent, plain, signed
from reward_evidence.statistics.by_prompt import Responses, values_by_prompt
from reward_evidence.statistics.monotonicity import (
    BOOTSTRAP_RESAMPLES,
    Change,
    Estimate,
    FloatArray,
    Win,
    estimate,
    paired_change,
    quantile_interval,
    rank_correlations,
    spearman,
    verdict_word,
    win_rate,
)

_NAME_CHARS = 40
_BATCH_VALUES = 1_000_000
"""Values of a batch of resamples: bounds memory for many prompts."""


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class GoldTrend(_Figures):
    """One gold model."""

    id: str
    means: list[Estimate]
    """By checkpoint."""
    since_first: list[Change]
    """From the first to each later checkpoint, paired by prompt."""

    @property
    def short_name(self) -> str:
        """The end of the id, which may be a path or a URL."""
        end = self.id.rstrip("/").rsplit("/", 1)[-1]
        return end if len(end) <= _NAME_CHARS else f"…{end[1 - _NAME_CHARS :]}"


class GoldAgreement(_Figures):
    """Two gold models on the changes of the prompts from the first checkpoint to the last."""

    first: str
    second: str
    same_direction: Win
    """Share of prompts whose change has the same sign for both; half where one of them sees none."""
    rho: float | None
    """Spearman's ρ of the changes over prompts; null where one model's changes are all equal."""
    low: float | None
    high: float | None
    """95 % interval of ρ, percentile bootstrap over prompts."""


class SeveralGolds(_Figures):
    """All gold models of an evaluation, the primary one first."""

    models: list[GoldTrend]
    agreement: list[GoldAgreement]
    """Of each pair; empty with one checkpoint."""


def several_golds(checkpoints: Sequence[Responses]) -> SeveralGolds | None:
    """Describe the gold models that scored all responses of `checkpoints`; None unless they are several."""
    scored = [response for responses in checkpoints for response in responses]
    names = [name for name in scored[0].golds if all(name in response.golds for response in scored)]
    if len(names) < 2:
        return None
    values = {
        name: np.stack([values_by_prompt(one, lambda r, name=name: r.golds[name]) for one in checkpoints])  # type: ignore[misc]
        for name in names
    }  # (T, N)
    models = [
        GoldTrend(
            id=name,
            means=[estimate(row) for row in rows],
            since_first=[paired_change(rows[0], later) for later in rows[1:]],
        )
        for name, rows in values.items()
    ]
    changes = {name: rows[-1] - rows[0] for name, rows in values.items()} if len(checkpoints) > 1 else {}
    pairs = [gold_agreement(a, b, changes[a], changes[b]) for a, b in combinations(changes, 2)]
    return SeveralGolds(models=models, agreement=pairs)


def gold_agreement(first: str, second: str, x: FloatArray, y: FloatArray, *, seed: int = 0) -> GoldAgreement:
    """Compare the changes `x` and `y` (N,) that two gold models see, prompt by prompt."""
    same = (1 + np.sign(x) * np.sign(y)) / 2
    rho = spearman(x, y)
    low, high = (None, None) if rho is None else _bootstrap(x, y, seed)
    return GoldAgreement(
        first=first, second=second, same_direction=win_rate(same.tolist()), rho=rho, low=low, high=high
    )


def _bootstrap(x: FloatArray, y: FloatArray, seed: int) -> tuple[float | None, float | None]:
    rng, size = np.random.default_rng(seed), max(1, _BATCH_VALUES // len(x))
    found: list[FloatArray] = []
    for begin in range(0, BOOTSTRAP_RESAMPLES, size):
        rows = rng.integers(len(x), size=(len(x), min(size, BOOTSTRAP_RESAMPLES - begin)))
        found.append(rank_correlations(x[rows], y[rows]))
    rhos = np.concatenate(found)
    return quantile_interval(rhos[np.isfinite(rhos)])


def primary_sentence(golds: SeveralGolds | None) -> str:
    """What a conclusion rests on; empty with one gold model."""
    if golds is None:
        return ""
    return (
        f" The verdict rests on the primary gold model alone, {golds.models[0].id}, which was declared when the "
        "service started; the others are shown beside it."
    )


def gold_findings(golds: SeveralGolds | None) -> list[str]:
    """A sentence for each gold model beside the primary one, with its agreement."""
    if golds is None:
        return []
    agreement = {pair.second: pair for pair in golds.agreement if pair.first == golds.models[0].id}
    return [_finding(model, agreement[model.id]) for model in golds.models[1:] if model.id in agreement]


def _finding(model: GoldTrend, pair: GoldAgreement) -> str:
    change, same = model.since_first[-1], pair.same_direction
    amount = signed(change.mean, decimals_for(change.low, change.high))
    moved = f"{verdict_word(change.low, change.high)}, {amount}"
    rho = "undefined" if pair.rho is None else f"{plain(pair.rho)} ({interval(pair.low, pair.high)})"
    return (
        f"The gold model {model.id}, beside the primary one: {moved} (95 % interval "
        f"{interval(change.low, change.high, with_sign=True)}, paired by prompt). On {percent(same.rate)} of "
        f"{same.n} prompts ({percent(same.low)} to {percent(same.high)}) its change has the sign of the primary "
        f"one's; Spearman's ρ of the changes is {rho}."
    )
