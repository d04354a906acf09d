"""What drove the reward from the first checkpoint to the last. Pure.

    factors of each response ──Shapley, paired by prompt──▶ parts of the proxy change; they sum to it
    gold change on length change ──least squares over prompts──▶ gold change at equal length   (diagnostic)
    gold of last and first ──pairs of responses──▶ gold win rate

Several samples of a prompt are paired each with each, and the prompt counts once. Intervals resample prompts.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.brevity import asks_for_brevity
from reward_evidence.statistics.by_prompt import (
    Measure,
    Responses,
    n_words,
    samples_by_prompt,
    values_by_prompt,
)
from reward_evidence.statistics.equal_change import EqualChange, change_at_equal
from reward_evidence.statistics.monotonicity import (
    Change,
    FloatArray,
    Verdict,
    Win,
    paired_change,
    prompt_resamples,
    quantile_interval,
    win_rate,
)
from reward_evidence.statistics.shapley import align, shapley_parts


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class FactorPart(_Figures):
    """One factor's part of the proxy change."""

    name: str
    """The feature; "a or b" where one took the place of the other."""
    n_prompts: int
    """Prompts whose reward has the factor."""
    first: float
    last: float
    """Mean of the factor over these prompts, as it was multiplied."""
    part: float
    low: float | None
    high: float | None
    share: float | None
    """Part / proxy change; null when the proxy neither rose nor fell clearly."""
    share_low: float | None
    share_high: float | None


class Brevity(_Figures):
    """The prompts that ask for a brief answer; see `statistics.brevity`."""

    n_prompts: int
    proxy_change: Change
    gold_change: Change | None
    share: float | None
    """Their part of the sum of all prompts' proxy changes; null when the proxy neither rose nor fell clearly."""


class Drivers(_Figures):
    """From the first to the last checkpoint, on all prompts or on those of one query type."""

    parts: list[FactorPart]
    """By size; their sum is the proxy change."""
    gold_at_equal_length: EqualChange | None
    gold_at_equal_truncation: EqualChange | None
    gold_wins: Win | None
    brevity: Brevity | None
    """Null when no prompt asks for brevity."""


def change_drivers(first: Responses, last: Responses) -> Drivers:
    """Compare two checkpoints, of the same prompts."""
    return Drivers(
        parts=factor_parts(first, last),
        gold_at_equal_length=_gold_at_equal(first, last, n_words, nearly=_tenth_of_words(first)),
        gold_at_equal_truncation=_gold_at_equal(first, last, lambda r: r.truncated),
        gold_wins=_gold_wins(first, last),
        brevity=_brevity(first, last),
    )


def factor_parts(first: Responses, last: Responses) -> list[FactorPart]:
    """Split the mean proxy change by factor."""
    by_prompt = parts_by_prompt(first, last)  # name ──▶ (N, 3): first value, last value, part; NaN without it
    changes = _changes(first, last, lambda r: r.proxy_reward)
    is_clear = paired_change(np.zeros_like(changes), changes).verdict is not Verdict.UNDECIDED
    counts = prompt_resamples(len(changes))
    totals = counts @ changes
    found = []
    for name, rows in by_prompt.items():
        has_it = np.isfinite(rows[:, 2])
        parts = np.where(has_it, rows[:, 2], 0.0)
        resampled = counts @ parts
        low, high = quantile_interval(resampled / len(changes))
        share_low, share_high = quantile_interval(resampled[totals != 0] / totals[totals != 0])
        means = rows[has_it].mean(axis=0)
        found.append(
            FactorPart(
                name=name,
                n_prompts=int(has_it.sum()),
                first=float(means[0]),
                last=float(means[1]),
                part=float(parts.mean()),
                low=low,
                high=high,
                share=float(parts.sum() / changes.sum()) if is_clear else None,
                share_low=share_low if is_clear else None,
                share_high=share_high if is_clear else None,
            )
        )
    return sorted(found, key=lambda part: -abs(part.part))


def parts_by_prompt(first: Responses, last: Responses) -> dict[str, FloatArray]:
    """For each factor the mean over a prompt's pairs of responses of its first value, last value and part."""
    before, after = samples_by_prompt(first), samples_by_prompt(last)
    layouts: dict[tuple[str, ...], list[tuple[int, int, list[tuple[float, float]]]]] = {}
    for index, (old, new) in enumerate(zip(before.values(), after.values(), strict=True)):
        for a in old:
            for b in new:
                aligned = align(a.factors, b.factors)
                pair = (index, len(old) * len(new), list(aligned.values()))
                layouts.setdefault(tuple(aligned), []).append(pair)
    sums: dict[str, FloatArray] = {}
    weights: dict[str, FloatArray] = {}
    for names, pairs in layouts.items():
        prompts = np.array([index for index, _, _ in pairs])
        weight = np.array([1 / n_pairs for _, n_pairs, _ in pairs])
        values = np.array([pair for _, _, pair in pairs])  # (M, K, 2)
        parts = shapley_parts(values[:, :, 0], values[:, :, 1])
        for i, name in enumerate(names):
            rows = sums.setdefault(name, np.zeros((len(before), 3)))
            np.add.at(rows, prompts, weight[:, None] * np.column_stack([values[:, i], parts[:, i]]))
            np.add.at(weights.setdefault(name, np.zeros(len(before))), prompts, weight)
    for name, rows in sums.items():
        with np.errstate(invalid="ignore"):
            rows[:, :2] /= weights[name][:, None]  # of the pairs that have the factor
        rows[weights[name] == 0] = np.nan
    return sums


def _changes(first: Responses, last: Responses, measure: Measure) -> FloatArray:
    """Last minus first, (N,)."""
    return values_by_prompt(last, measure) - values_by_prompt(first, measure)


def _has_gold(responses: Responses) -> bool:
    return all(response.gold_reward is not None for response in responses)


def _tenth_of_words(first: Responses) -> FloatArray:
    return values_by_prompt(first, n_words) / 10


def _gold_at_equal(
    first: Responses, last: Responses, measure: Measure, nearly: FloatArray | float = 0.0
) -> EqualChange | None:
    both = [*first, *last]
    if not _has_gold(both) or any(measure(response) is None for response in both):
        return None
    gold, covariate = _changes(first, last, lambda r: r.gold_reward), _changes(first, last, measure)
    return change_at_equal(gold, covariate, n_equal=int((np.abs(covariate) <= nearly).sum()))


def _gold_wins(first: Responses, last: Responses) -> Win | None:
    if not _has_gold([*first, *last]):
        return None
    pairs = zip(samples_by_prompt(first).values(), samples_by_prompt(last).values(), strict=True)
    return win_rate([_share_won(_golds(old), _golds(new)) for old, new in pairs])


def _golds(responses: Responses) -> FloatArray:
    return np.array([response.gold_reward for response in responses], dtype=np.float64)


def _share_won(old: FloatArray, new: FloatArray) -> float:
    difference = new[:, None] - old[None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def _brevity(first: Responses, last: Responses) -> Brevity | None:
    brief = {r.prompt_id for r in first if asks_for_brevity(r.prompt)}
    if not brief:
        return None
    old, new = (_of(brief, responses) for responses in (first, last))
    proxy = values_by_prompt(first, lambda r: r.proxy_reward), values_by_prompt(last, lambda r: r.proxy_reward)
    is_clear = paired_change(*proxy).verdict is not Verdict.UNDECIDED
    own = _change(old, new, lambda r: r.proxy_reward)
    return Brevity(
        n_prompts=len(brief),
        proxy_change=own,
        gold_change=_change(old, new, lambda r: r.gold_reward) if _has_gold([*first, *last]) else None,
        share=own.mean * own.n / float((proxy[1] - proxy[0]).sum()) if is_clear else None,
    )


def _of(prompt_ids: set[str], responses: Responses) -> list[EvaluatedResponse]:
    return [response for response in responses if response.prompt_id in prompt_ids]


def _change(first: Responses, last: Responses, measure: Measure) -> Change:
    return paired_change(values_by_prompt(first, measure), values_by_prompt(last, measure))
