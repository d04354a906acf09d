"""Intervals over seeds and prompts: they contain the truth as often as they claim, and report one seed as one."""

from __future__ import annotations

import numpy as np
import pytest

from reward_evidence.statistics.monotonicity import Verdict, estimate
from reward_evidence.statistics.pooled import (
    holm,
    pooled_difference,
    pooled_mean,
    pooled_rank_correlation,
)

N_TRIALS = 400


def trial(rng: np.random.Generator, n_seeds: int, n_prompts: int = 30, seed_sd: float = 1.0) -> np.ndarray:
    """Seeds and prompts with effects of known size, and a mean of zero: (S, N)."""
    seeds = rng.normal(0, seed_sd, (n_seeds, 1))
    prompts = rng.normal(0, 1, (1, n_prompts))
    return seeds + prompts + rng.normal(0, 1, (n_seeds, n_prompts))


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.1, 1.0])
def test_intervals_contain_the_truth_in_95_percent_of_studies(n_seeds: int, seed_sd: float) -> None:
    rng = np.random.default_rng(n_seeds)
    found = [pooled_mean(trial(rng, n_seeds, seed_sd=seed_sd)) for _ in range(N_TRIALS)]

    covered = np.mean([one.low <= 0 <= one.high for one in found if one.low is not None and one.high is not None])

    assert covered > 0.935


def test_equal_groups_differ_in_fewer_than_one_of_twenty_studies_after_correction() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(N_TRIALS):
        prompts = rng.normal(0, 1, (1, 30))  # the same prompts for every group
        groups = [trial(rng, 3, seed_sd=0.5) + prompts for _ in range(3)]
        pairs = [(0, 1), (0, 2), (1, 2)]
        p_values = [pooled_difference(groups[a], groups[b]).p_value or 0.0 for a, b in pairs]
        wrong += min(holm(p_values)) <= 0.05

    assert wrong / N_TRIALS < 0.06


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_sds", [(0.3, 0.3), (0.0, 1.0)])
def test_equal_groups_differ_in_at_most_5_percent_of_studies_also_if_only_one_varies_between_seeds(
    n_seeds: int, seed_sds: tuple[float, float]
) -> None:
    """Degrees of freedom by Welch and Satterthwaite gave narrower intervals, and 10 % in the last case."""
    rng = np.random.default_rng(n_seeds)
    wrong = 0
    for _ in range(N_TRIALS // 2):
        first, second = (trial(rng, n_seeds, 36, seed_sd) for seed_sd in seed_sds)
        found = pooled_difference(first, second)
        assert found.low is not None
        assert found.high is not None
        wrong += not found.low <= 0 <= found.high

    assert wrong / (N_TRIALS // 2) <= 0.06


def test_a_difference_that_is_large_against_seeds_and_prompts_is_found() -> None:
    rng = np.random.default_rng(2)
    better, worse = trial(rng, 3, seed_sd=0.1) + 1.0, trial(rng, 3, seed_sd=0.1)

    difference = pooled_difference(better, worse)

    assert difference.p_value is not None
    assert difference.p_value < 0.05
    assert difference.low is not None
    assert difference.low > 0


def test_pairing_by_prompt_removes_the_differences_between_prompts() -> None:
    rng = np.random.default_rng(3)
    prompts = rng.normal(0, 10, (1, 40))
    first, second = prompts + rng.normal(0, 0.1, (2, 40)), prompts + rng.normal(0, 0.1, (2, 40))

    difference = pooled_difference(first, second)

    assert difference.high is not None
    assert difference.low is not None
    assert difference.high - difference.low < 0.5


def test_with_one_seed_the_interval_is_that_over_prompts() -> None:
    values = np.random.default_rng(4).normal(size=(1, 25))

    pooled, over_prompts = pooled_mean(values), estimate(values[0])

    assert (pooled.low, pooled.high) == pytest.approx((over_prompts.low, over_prompts.high))
    assert pooled.n_seeds == 1


def test_seeds_with_equal_values_add_no_variance() -> None:
    one = np.random.default_rng(5).normal(size=(1, 25))

    repeated, single = pooled_mean(np.repeat(one, 3, axis=0)), pooled_mean(one)

    assert (repeated.low, repeated.high) == pytest.approx((single.low, single.high))


def test_seeds_that_differ_widen_the_interval() -> None:
    base = np.random.default_rng(6).normal(size=(1, 25))
    apart = np.concatenate([base - 2, base + 2])

    found = pooled_mean(apart)

    assert found.low is not None
    assert found.low < -10  # two seeds: Student's t with one degree of freedom
    assert found.verdict is Verdict.UNDECIDED


def test_the_variance_is_that_of_a_bootstrap_over_seeds_and_prompts() -> None:
    values = trial(np.random.default_rng(7), 30, 60)
    rng = np.random.default_rng(8)
    means = [values[rng.integers(0, 30, 30)][:, rng.integers(0, 60, 60)].mean() for _ in range(3000)]

    found = pooled_mean(values)

    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(2.0 * float(np.std(means)), rel=0.1)


def test_a_single_prompt_has_no_interval_and_no_p_value() -> None:
    one = np.ones((3, 1))

    assert pooled_mean(one).low is None
    assert pooled_difference(one, one).p_value is None


def test_equal_values_have_a_difference_of_zero_and_a_p_value_of_one() -> None:
    values = np.random.default_rng(9).normal(size=(2, 20))

    assert pooled_difference(values, values[:, ::1]).mean == 0
    assert pooled_difference(np.repeat(values[:1], 2, axis=0), values[:1]).p_value == 1.0


def test_groups_on_other_prompts_have_no_difference() -> None:
    with pytest.raises(ValueError, match="needs the same prompts in both, got 20, 21"):
        pooled_difference(np.zeros((1, 20)), np.zeros((1, 21)))


def test_holm_adjusts_the_smallest_p_value_for_all_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03, 0.6]) == pytest.approx([0.09, 0.04, 0.09, 0.6])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_the_rank_correlation_is_that_of_pooled_means_and_needs_four_checkpoints() -> None:
    rng = np.random.default_rng(10)
    steps = np.arange(5.0)[None, :, None]
    proxy = steps + rng.normal(0, 0.2, (3, 5, 20))
    gold = -2 * steps + rng.normal(0, 0.2, (3, 5, 20))

    found = pooled_rank_correlation(proxy, gold)

    assert found is not None
    assert found.rho == -1.0
    assert found.by_seed == [-1.0, -1.0, -1.0]
    assert (found.low, found.high) == (-1.0, -1.0)
    assert pooled_rank_correlation(proxy[:, :3], gold[:, :3]) is None
