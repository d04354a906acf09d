"""The statistics of the verdict, compared with values computed by hand and with simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reward_evidence.statistics.monotonicity import (
    Verdict,
    average_by_prompt,
    count_falls,
    estimate,
    paired_change,
    permutation_p_value,
    rank_correlation,
    spearman,
    verdict_word,
)


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


# -- means


def test_samples_of_one_prompt_are_averaged_first() -> None:
    by_prompt = average_by_prompt(["a", "b", "a", "b", "a"], [1.0, 10.0, 2.0, 20.0, 3.0])
    assert by_prompt.tolist() == [2.0, 15.0]


def test_interval_of_a_mean_is_student_s() -> None:
    """1, 2, 3: s = 1, so the half-width is 4.302653 / √3."""
    result = estimate(array(1, 2, 3))
    assert (result.mean, result.n) == (2.0, 3)
    assert result.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert result.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)


def test_one_prompt_has_a_mean_and_no_interval() -> None:
    result = estimate(array(3))
    assert (result.mean, result.low, result.high) == (3.0, None, None)


def test_a_mean_of_no_prompts_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        estimate(array())


# -- the primary figure


def test_change_is_last_minus_first() -> None:
    change = paired_change(array(0, 0, 0, 0), array(1, 2, 3, 4))
    assert (change.first, change.last, change.mean) == (0.0, 2.5, 2.5)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(1.0, Verdict.ROSE), (-1.0, Verdict.FELL), (0.0, Verdict.UNDECIDED)]
)
def test_verdict_follows_the_interval(shift: float, verdict: Verdict) -> None:
    noise = array(0.3, -0.3, 0.2, -0.2, 0.1, -0.1)
    assert paired_change(np.zeros(6), noise + shift).verdict is verdict


def test_a_run_that_changed_nothing_is_undecided() -> None:
    change = paired_change(array(1, 2, 3), array(1, 2, 3))
    assert (change.mean, change.low, change.high, change.verdict) == (0.0, 0.0, 0.0, Verdict.UNDECIDED)


def test_rounding_of_scores_is_no_change() -> None:
    first = array(0.31, 0.52, 0.84)
    change = paired_change(first, first + array(1.2e-8, 1.3e-8, 1.1e-8))

    assert change.verdict is Verdict.UNDECIDED
    assert verdict_word(change.low, change.high) == "unchanged"
    assert verdict_word(*[1e4 * bound for bound in (change.low or 0.0, change.high or 0.0)]) == "rose"


def test_one_prompt_is_undecided() -> None:
    assert paired_change(array(0), array(5)).verdict is Verdict.UNDECIDED


def test_pairing_detects_a_change_that_an_unpaired_test_does_not() -> None:
    """The differences between prompts are much larger than the change by training."""
    rng = np.random.default_rng(1)
    first = rng.normal(0, 10, 64)
    last = first + 0.5 + rng.normal(0, 0.5, 64)
    assert paired_change(first, last).verdict is Verdict.ROSE
    assert stats.ttest_ind(last, first).pvalue > 0.5


def test_different_prompts_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same prompts"):
        paired_change(array(1, 2), array(1, 2, 3))


@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_covers_the_true_change_in_95_percent_of_runs(skewed: bool) -> None:
    rng = np.random.default_rng(7)
    n_runs, truth = 2000, 0.2
    covered = 0
    for _ in range(n_runs):
        first = rng.normal(0, 3, 64)
        noise = rng.exponential(1, 64) - 1 if skewed else rng.normal(0, 1, 64)
        change = paired_change(first, first + truth + noise)
        assert change.low is not None
        assert change.high is not None
        covered += change.low <= truth <= change.high
    assert 0.93 <= covered / n_runs <= 0.965


# -- rank correlation


def test_spearman_equals_the_value_computed_by_hand() -> None:
    """ρ = 1 − 6 Σd² / n(n² − 1) = 1 − 6·4 / 120 when two neighbouring pairs of five are swapped."""
    assert spearman(array(1, 2, 3, 4, 5), array(20, 10, 30, 50, 40)) == pytest.approx(1 - 24 / 120)


def test_spearman_gives_ties_their_mean_rank() -> None:
    """Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: Σ = 4.5 over √(4.5 · 5)."""
    assert spearman(array(1, 2, 2, 3), array(1, 2, 3, 4)) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_a_constant_sequence_has_no_correlation() -> None:
    assert spearman(array(1, 1, 1), array(1, 2, 3)) is None
    assert permutation_p_value(array(1, 2, 3), array(5, 5, 5))[0] is None


def test_equal_means_that_differ_by_rounding_have_no_order() -> None:
    assert spearman(array(0.3, 0.1 + 0.2, 0.3), array(1, 2, 3)) is None


@pytest.mark.parametrize(("n", "p_value"), [(3, 2 / 6), (4, 2 / 24), (5, 2 / 120), (7, 2 / 5040)])
def test_p_value_of_a_perfect_order_is_two_in_all_orders(n: int, p_value: float) -> None:
    """Only the observed order and its reverse are as extreme."""
    x = np.arange(n, dtype=float)
    found, n_orders, exact = permutation_p_value(x, x**3)
    assert found == pytest.approx(p_value)
    assert (n_orders, exact) == (math.factorial(n), True)


def test_p_value_by_enumeration() -> None:
    """One swap in three: ρ = 0.5; 3 of the 6 orders have ρ ≥ 0.5 on one side, so p = 1."""
    assert permutation_p_value(array(1, 2, 3), array(2, 1, 3))[0] == pytest.approx(1.0)


def test_with_many_checkpoints_the_permutations_are_sampled_and_marked() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=12), rng.normal(size=12)
    p_value, n_orders, exact = permutation_p_value(x, y)
    assert not exact
    assert n_orders < math.factorial(12)
    assert p_value == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.03)


def test_rank_correlation_is_that_of_the_checkpoint_means() -> None:
    trend = np.linspace(0, 4, 5)[:, None]  # (T, 1)
    rng = np.random.default_rng(5)
    proxy, gold = trend + rng.normal(0, 0.1, (5, 40)), 2 * trend + rng.normal(0, 0.1, (5, 40))
    result = rank_correlation(proxy, gold)
    assert result.rho == pytest.approx(1.0)
    assert (result.n_checkpoints, result.n_prompts) == (5, 40)
    assert result.low == pytest.approx(1.0)


def test_noise_between_prompts_widens_the_interval_of_rho() -> None:
    trend = np.linspace(0, 1, 5)[:, None]
    rng = np.random.default_rng(5)
    noisy = rank_correlation(trend + rng.normal(0, 3, (5, 40)), trend + rng.normal(0, 3, (5, 40)))
    assert noisy.low is not None
    assert noisy.high is not None
    assert noisy.high - noisy.low > 0.5


def test_opposite_trends_correlate_negatively() -> None:
    trend = np.linspace(0, 4, 6)[:, None] + np.zeros((6, 10))
    assert rank_correlation(trend, -trend).rho == pytest.approx(-1.0)


def test_one_checkpoint_has_no_rank_correlation() -> None:
    result = rank_correlation(np.ones((1, 5)), np.ones((1, 5)))
    assert (result.rho, result.p_value, result.low) == (None, None, None)


def test_the_same_data_give_the_same_figures() -> None:
    rng = np.random.default_rng(2)
    proxy, gold = rng.normal(size=(10, 30)), rng.normal(size=(10, 30))
    assert rank_correlation(proxy, gold) == rank_correlation(proxy, gold)


# -- violations


def test_falls_are_counted_with_those_beyond_their_interval() -> None:
    noise = np.tile([0.4, -0.4], 20)  # its mean is zero
    values = np.array([np.zeros(40), np.ones(40), np.ones(40) - 0.01 + noise, np.full(40, -3.0)])
    result = count_falls(values)
    assert (result.falls, result.clear_falls, result.n_steps) == (2, 1, 3)
