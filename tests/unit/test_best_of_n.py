"""The figures of best-of-n: equal to brute force, right on made-up cases, and what they warn of."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from reward_client.wire import QueryType
from reward_evidence.best_of_n.estimator import kl_of_best, pick_probabilities, sizes
from reward_evidence.best_of_n.examples import choose_examples
from reward_evidence.best_of_n.figures import Curve, Figures, JudgedSamples, summarise
from reward_evidence.best_of_n.resampling import mean_estimates, sign_flip_p_values
from reward_evidence.sampling.samples import Sample
from reward_evidence.statistics.monotonicity import FloatArray
from reward_runs.prompts import Prompt

# The expectation over subsets --------------------------------------------------------------------------------


def brute_force(rewards: FloatArray, gold: FloatArray, n: int) -> float:
    """Mean gold of the best of each subset of one prompt's samples; ties count in equal parts."""
    found = []
    for subset in combinations(range(len(rewards)), n):
        best = max(rewards[i] for i in subset)
        found.append(np.mean([gold[i] for i in subset if rewards[i] == best]))
    return float(np.mean(found))


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("n_values", [2, 3, 100], ids=["many ties", "ties", "no ties"])
def test_the_expected_pick_is_the_mean_over_all_subsets(n: int, n_values: int) -> None:
    random = np.random.default_rng(n)
    rewards = random.permutation(np.arange(100))[:28].reshape(4, 7) % n_values + 0.5
    gold = random.normal(size=(4, 7))

    expected = (pick_probabilities(rewards, n) * gold).sum(axis=1)

    assert expected == pytest.approx([brute_force(*row, n) for row in zip(rewards, gold, strict=True)])


def test_probabilities_sum_to_one_for_thousands_of_samples() -> None:
    rewards = np.random.default_rng(0).normal(size=(1, 5000))

    for n in sizes(5000):
        assert pick_probabilities(rewards, n).sum() == pytest.approx(1.0)


def test_more_samples_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        pick_probabilities(np.zeros((1, 4)), 5)


@pytest.mark.parametrize(
    ("n_samples", "expected"), [(1, [1]), (2, [1, 2]), (12, [1, 2, 4, 8, 12]), (16, [1, 2, 4, 8, 16])]
)
def test_sizes_are_powers_of_two_and_all_samples(n_samples: int, expected: list[int]) -> None:
    assert sizes(n_samples) == expected


def test_the_divergence_of_one_sample_is_zero_and_that_of_sixteen_is_known() -> None:
    assert kl_of_best(1) == 0.0
    assert kl_of_best(16) == pytest.approx(math.log(16) - 15 / 16)


def test_the_divergence_is_that_of_the_distribution_of_the_best() -> None:
    """Of 4000 equally likely responses, the best of 4 has rank r with probability (r/4000)^4 − ((r−1)/4000)^4."""
    ranks = np.arange(1, 4001) / 4000
    probabilities = ranks**4 - (ranks - 1 / 4000) ** 4

    divergence = float((probabilities * np.log(probabilities * 4000)).sum())

    assert divergence == pytest.approx(kl_of_best(4), abs=1e-3)


# Resampling --------------------------------------------------------------------------------


def test_p_values_of_sign_flips_are_those_of_all_flips() -> None:
    differences = np.array([[3.0], [1.0], [2.0], [2.5], [0.5], [4.0]])  # 2 of 64 flips are as extreme

    assert sign_flip_p_values(differences) == pytest.approx([2 / 64], abs=0.006)


def test_equal_picks_have_a_p_value_of_one() -> None:
    assert sign_flip_p_values(np.zeros((20, 1))) == pytest.approx([1.0])


def test_intervals_do_not_depend_on_the_blocks_and_are_undefined_for_one_prompt() -> None:
    values = np.random.default_rng(1).normal(size=(3000, 2))  # in two blocks or more

    first, second = mean_estimates(values)

    assert first.low is not None
    assert first.high is not None
    assert (first.high - first.low) / 2 == pytest.approx(1.96 / math.sqrt(3000), rel=0.1)
    assert second.n == 3000
    assert mean_estimates(values[:1])[0].low is None


# Made-up cases --------------------------------------------------------------------------------

N_PROMPTS, N_SAMPLES = 40, 16


def judged(**recipes: FloatArray) -> JudgedSamples:
    """Samples whose gold is random; `recipes` are added."""
    gold = made_up_gold()
    prompts = tuple(
        Prompt(
            id=f"p{i}",
            prompt=f"Prompt {i}?",
            query_type=QueryType.OPEN_ENDED if i % 4 else QueryType.CLOSED_ENDED,
            reference=None if i % 4 else "yes",
        )
        for i in range(len(gold))
    )
    samples = tuple(
        tuple(Sample(prompt, n, "word " * (n + 1) + prompt.id) for n in range(N_SAMPLES)) for prompt in prompts
    )
    return JudgedSamples(prompts, samples, gold, recipes)


def made_up_gold() -> FloatArray:
    random = np.random.default_rng(7)
    return random.normal(size=(N_PROMPTS, N_SAMPLES)) + random.normal(size=(N_PROMPTS, 1))


def noise(seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(N_PROMPTS, N_SAMPLES))


def curve(figures: Figures, name: str) -> Curve:
    return next(one for one in figures.curves if one.name == name)


def golds(found: Curve) -> list[float]:
    return [point.gold.mean for point in found.points]


def test_a_recipe_equal_to_gold_reaches_all_that_is_possible() -> None:
    figures = summarise(judged(right=3 * made_up_gold() + 1, noisy=made_up_gold() + 2 * noise(1)))

    right, noisy = curve(figures, "right"), curve(figures, "noisy")
    assert golds(right) == pytest.approx(golds(curve(figures, "gold")))
    assert right.share_of_possible is not None
    assert right.share_of_possible.value == pytest.approx(1.0)
    assert noisy.share_of_possible is not None
    assert 0.1 < noisy.share_of_possible.value < 0.9
    assert figures.comparisons[0].better == "right"
    assert right.falls == []


def test_every_judge_starts_at_the_mean_of_all_samples_and_random_stays_there() -> None:
    figures = summarise(judged(a=noise(1), b=-made_up_gold()))

    for one in figures.curves:
        assert golds(one)[0] == pytest.approx(made_up_gold().mean())
    random = curve(figures, "random")
    assert golds(random) == pytest.approx([made_up_gold().mean()] * 5)
    assert random.points[-1].gold_change.high == pytest.approx(0.0, abs=1e-9)


def test_a_recipe_opposed_to_gold_falls_and_is_over_optimised() -> None:
    figures = summarise(judged(wrong=-made_up_gold()))

    wrong = curve(figures, "wrong")
    assert golds(wrong) == sorted(golds(wrong), reverse=True)
    assert [fall.since_n for fall in wrong.falls] == [1, 2, 4, 8]
    assert {c.better for c in figures.comparisons} == {"longest", "random"}


def test_gold_that_rises_first_and_falls_later_is_over_optimised_since_its_peak() -> None:
    """The reward agrees with gold, except that the three highest rewards of a prompt are the worst responses."""
    hacked = made_up_gold()
    order = np.argsort(hacked, axis=1)
    np.put_along_axis(hacked, order[:, :3], 10.0 + noise(2)[:, :3], axis=1)

    found = curve(summarise(judged(hacked=hacked)), "hacked")

    assert [fall.since_n for fall in found.falls] == [1, 2, 4, 8]
    assert found.falls[-1].gold_change.mean < 0 < found.falls[-1].reward_change.mean


def test_a_reward_without_relation_to_gold_warns_of_nothing_and_decides_nothing() -> None:
    figures = summarise(judged(a=noise(11), b=noise(12)))

    assert [one.falls for one in figures.curves if one.kind == "recipe"] == [[], []]
    assert [c.better for c in figures.comparisons] == [None] * 5


def test_a_constant_reward_is_as_good_as_random_and_has_no_scale() -> None:
    found = curve(summarise(judged(flat=np.zeros((N_PROMPTS, N_SAMPLES)))), "flat")

    assert golds(found) == pytest.approx([made_up_gold().mean()] * 5)
    assert found.points[-1].reward_change_sd is None
    assert found.falls == []


def test_longest_picks_the_most_words_and_query_types_are_averaged_apart() -> None:
    figures = summarise(judged(a=noise(1)))

    assert curve(figures, "longest").points[-1].words == N_SAMPLES + 1
    types = curve(figures, "a").query_types
    assert {kind: points[0].gold.n for kind, points in types.items()} == {
        QueryType.OPEN_ENDED: 30,
        QueryType.CLOSED_ENDED: 10,
    }
    expected = (
        30 * types[QueryType.OPEN_ENDED][-1].gold.mean + 10 * types[QueryType.CLOSED_ENDED][-1].gold.mean
    ) / 40
    assert golds(curve(figures, "a"))[-1] == pytest.approx(expected)


def test_the_scale_of_a_reward_is_that_of_the_prompts_of_a_query_type() -> None:
    """Rewards of closed-ended prompts are ten times as large: in standard deviations the picks gain the same."""
    closed = np.array([[10.0 if i % 4 == 0 else 1.0] for i in range(N_PROMPTS)])

    types = curve(summarise(judged(a=noise(1)[:1] * closed)), "a").query_types

    open_ended, closed_ended = (types[kind][-1] for kind in (QueryType.OPEN_ENDED, QueryType.CLOSED_ENDED))
    assert closed_ended.reward_change.mean == pytest.approx(10 * open_ended.reward_change.mean)
    assert closed_ended.reward_change_sd == pytest.approx(open_ended.reward_change_sd)


def test_one_prompt_has_figures_without_intervals_and_without_verdicts() -> None:
    one = judged(wrong=-made_up_gold())
    single = JudgedSamples(one.prompts[:1], one.samples[:1], one.gold[:1], {"wrong": one.recipes["wrong"][:1]})

    figures = summarise(single)

    assert figures.curves[0].points[-1].gold_change.low is None
    assert [c.better for c in figures.comparisons] == [None, None]
    assert curve(figures, "wrong").falls == []


def test_one_sample_leaves_nothing_to_pick() -> None:
    one = judged(a=noise(1))
    single = JudgedSamples(
        one.prompts, tuple(row[:1] for row in one.samples), one.gold[:, :1], {"a": one.recipes["a"][:, :1]}
    )

    figures = summarise(single)

    assert [len(c.points) for c in figures.curves] == [1, 1, 1, 1]
    assert [c.better for c in figures.comparisons] == [None, None]


def test_examples_are_prompts_with_different_picks_the_largest_difference_first() -> None:
    gold = made_up_gold()
    examples = choose_examples(judged(right=gold, wrong=-gold, same=gold))

    gaps = gold.max(axis=1) - gold.min(axis=1)
    assert [e.gap for e in examples[:4]] == pytest.approx(sorted(gaps, reverse=True)[:4])
    assert len({e.prompt_id for e in examples}) == len(examples) == 8
    assert examples[0].picks[0].judges == ["right", "same", "gold"]
    assert "wrong" in examples[0].picks[-1].judges


def test_recipes_that_agree_have_no_examples() -> None:
    assert choose_examples(judged(a=made_up_gold(), b=made_up_gold())) == []
