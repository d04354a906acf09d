"""Change of a reward at an equal covariate, such as length: a diagnostic, not an effect. Pure.

    change of gold = change at equal length + slope · change of length      (least squares over prompts)

It assumes that the reward depends on the covariate linearly, with the same slope for every prompt, and that
nothing else that changed goes with it. Length is a mediator: where longer answers are better answers, the change
at equal length leaves out a gain that is real. Where few prompts kept the covariate (`n_equal`), it is an
extrapolation. Where the covariate changed by the same amount for every prompt, the two cannot be separated: there
is no figure, and a change of the reward is not shown at an equal covariate.
"""

from dataclasses import dataclass

import numpy as np

from reward_evidence.statistics.monotonicity import (
    FloatArray,
    Verdict,
    paired_change,
    prompt_resamples,
    quantile_interval,
    verdict_of,
)


@dataclass(frozen=True, slots=True)
class EqualChange:
    """The change at an equal covariate, with the 95 % bootstrap interval over prompts."""

    mean: float | None
    """Null when the covariate changed by the same amount, not zero, for every prompt."""
    low: float | None
    high: float | None
    verdict: Verdict
    slope: float | None
    """Change of the reward with a unit of the covariate; null when the covariate did not change."""
    n: int
    n_equal: int
    """Prompts with (nearly) the same covariate at both checkpoints."""

    @property
    def can_be_told(self) -> bool:
        """Whether the figure rests on prompts that kept the covariate, and is no extrapolation alone."""
        return self.mean is not None and self.n_equal > 0


def change_at_equal(reward: FloatArray, covariate: FloatArray, *, n_equal: int) -> EqualChange:
    """Regress changes of `reward` on changes of `covariate`, both (N,).

    If the covariate changed for no prompt, the change at an equal covariate is the change. If it changed by the
    same amount for every prompt, nothing can be estimated: the figures are None, and the verdict is undecided.
    """
    n = len(reward)
    if not np.any(covariate):
        change = paired_change(np.zeros_like(reward), reward)
        return EqualChange(change.mean, change.low, change.high, change.verdict, None, n, n_equal)
    intercept, slope = _least_squares(np.ones((1, n)), covariate, reward)
    if not np.isfinite(intercept[0]):
        return EqualChange(None, None, None, Verdict.UNDECIDED, None, n, n_equal)
    resampled, _ = _least_squares(prompt_resamples(n).astype(np.float64), covariate, reward)
    low, high = quantile_interval(resampled[np.isfinite(resampled)])
    return EqualChange(float(intercept[0]), low, high, verdict_of(low, high), float(slope[0]), n, n_equal)


def _least_squares(weights: FloatArray, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intercept and slope of y on x for each row of `weights` (R, N); NaN where x is constant."""
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    variance = weights @ (x * x) / total - mean_x**2
    covariance = weights @ (x * y) / total - mean_x * mean_y
    is_constant = variance <= 1e-12 * (1.0 + mean_x**2)
    slope = np.divide(covariance, variance, out=np.full_like(variance, np.nan), where=~is_constant)
    return mean_y - slope * mean_x, slope
