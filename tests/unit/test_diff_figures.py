"""Figures of `glassbox diff`: orders within prompts, movements by feature, intervals over prompts."""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

import pytest
from scipy.stats import kendalltau

from reward_client.diff.figures import agreement, compared, feature_shares, gold_agreements, movers, places
from reward_client.diff.judged import Judged, Judgement
from reward_client.diff.movement import contributions
from reward_client.diff.ranks import best, pair_counts, ranks
from reward_client.intervals import mean_over_prompts, ratio_over_prompts, share_over_prompts
from reward_client.wire import Item

Parts = dict[str, float]


def row(number: int, a: Parts, b: Parts, gold: float | None = None, query_type: str = "open_ended") -> Judged:
    item = Item(prompt="p", response=f"response {number}")
    judgements = (Judgement(sum(parts.values()), parts) for parts in (a, b))
    return Judged(number, item, query_type, {} if gold is None else {"a gold model": gold}, *judgements)


def rewards(a: list[float], b: list[float], gold: list[float] | None = None) -> list[Judged]:
    golds = gold or [None] * len(a)  # type: ignore[list-item]
    return [row(i, {"f": x}, {"f": y}, g) for i, (x, y, g) in enumerate(zip(a, b, golds, strict=True), 1)]


# Orders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_values", [2, 4, 1000])
def test_tau_and_pairs_are_those_of_the_definition_with_and_without_ties(n_values: int) -> None:
    random = Random(n_values)
    for _ in range(20):
        a, b = ([random.randrange(n_values) / 7 for _ in range(12)] for _ in range(2))
        found = pair_counts(a, b)
        pairs = list(combinations(range(12), 2))

        assert found.discordant == sum((a[i] - a[j]) * (b[i] - b[j]) < 0 for i, j in pairs)
        assert found.concordant == sum((a[i] - a[j]) * (b[i] - b[j]) > 0 for i, j in pairs)
        assert found.tied_both == sum(a[i] == a[j] and b[i] == b[j] for i, j in pairs)
        expected = kendalltau(a, b).statistic
        if math.isnan(expected):
            assert found.tau_b is None
        else:
            assert found.tau_b == pytest.approx(expected)


def test_differences_below_six_digits_are_ties() -> None:
    assert pair_counts([0.5, 0.50000001], [1.0, 2.0]).tied_a == 1
    assert ranks([0.5, 0.50000001, 0.1]) == [1.5, 1.5, 3.0]
    assert best([0.5, 0.50000001, 0.1]) == [0, 1]


def test_many_responses_to_one_prompt_are_counted_in_seconds() -> None:
    values = [Random(1).random() for _ in range(1)] + [Random(i).random() for i in range(2, 20_001)]

    assert pair_counts(values, values[::-1]).n == 20_000 * 19_999 // 2


def test_the_best_response_changes_when_none_is_best_under_both() -> None:
    same, changed, tied = ([3.0, 1.0, 2.0], [9.0, 1.0, 2.0]), ([3.0, 1.0], [1.0, 3.0]), ([1.0, 1.0], [1.0, 3.0])
    found = [compared(rows, [{}] * len(rows)) for rows in (rewards(*pair) for pair in (same, changed, tied))]

    assert [one.best_changes for one in found] == [False, True, False]
    assert agreement(found, None, 0).best_changes.value == pytest.approx(1 / 3)


def test_every_prompt_has_the_same_weight_however_many_responses_it_has() -> None:
    up = [float(i) for i in range(50)]
    found = [compared(rows, [{}] * len(rows)) for rows in (rewards(up, up), rewards([1.0, 2.0], [2.0, 1.0]))]
    figures = agreement(found, None, 0)

    assert figures.tau_b.value == 0.0
    assert figures.ordered_differently.value == 0.5
    assert (figures.n_prompts, figures.n_responses) == (2, 52)


def test_a_prompt_without_an_order_is_counted_and_in_no_mean() -> None:
    found = [
        compared(rows, [{}] * 2) for rows in (rewards([1.0, 1.0], [1.0, 2.0]), rewards([1.0, 2.0], [1.0, 2.0]))
    ]
    figures = agreement(found, None, 0)

    assert (figures.tau_b.value, figures.tau_b.n_prompts, figures.n_without_order) == (1.0, 1, 1)
    assert figures.tied_by_one.value == 0.5


def test_gold_agreement_is_paired_and_of_tied_best_responses_the_mean_counts() -> None:
    rows = rewards([1.0, 2.0, 3.0], [3.0, 3.0, 1.0], [10.0, 20.0, 30.0])
    [figures] = gold_agreements([compared(rows, [{}] * 3)], 0)

    assert figures.tau_a.value == 1.0
    assert figures.tau_difference.value == pytest.approx(kendalltau([3, 3, 1], [1, 2, 3]).statistic - 1)
    assert (figures.best_a.value, figures.best_b.value, figures.best_difference.value) == (30.0, 15.0, -15.0)
    assert gold_agreements([compared(rewards([1.0, 2.0], [1.0, 2.0]), [{}] * 2)], 0) == []


# Movements ------------------------------------------------------------------------------------------------------


def test_the_contributions_sum_to_the_difference_of_the_standardised_rewards() -> None:
    random = Random(5)
    groups = [
        [row(i, {"f": random.random(), "g": random.random()}, {"g": 5 * random.random()}) for i in range(3)]
        for _ in range(4)
    ]
    found = contributions(groups)

    def standardised(which: str) -> list[list[float]]:
        values = [[getattr(one, which).reward for one in group] for group in groups]
        centred = [[value - sum(group) / 3 for value in group] for group in values]
        deviation = math.sqrt(sum(value**2 for group in centred for value in group) / (4 * 2))
        return [[value / deviation for value in group] for group in centred]

    moved = [
        [y - x for x, y in zip(a, b, strict=True)]
        for a, b in zip(standardised("a"), standardised("b"), strict=True)
    ]
    for group, expected in zip(found, moved, strict=True):
        assert [sum(one.values()) for one in group] == pytest.approx(expected)


def test_the_feature_that_makes_the_difference_has_the_whole_share() -> None:
    """A and B share f; only B has g, which reverses the order."""
    groups = [[row(i, {"f": float(i)}, {"f": float(i), "g": -3.0 * i}) for i in range(3)] for _ in range(5)]
    found = [compared(*pair) for pair in zip(groups, contributions(groups), strict=True)]
    shares = {one.name: one.share.value for one in feature_shares(found, 0)}

    assert sum(value for value in shares.values() if value is not None) == pytest.approx(1.0)
    assert shares["g"] == pytest.approx(0.75)
    assert {mover.feature for mover in movers(found, 9)} == {"g"}


def test_query_types_are_standardised_apart() -> None:
    """Closed-ended rewards on a larger scale do not make the movements of open-ended responses small."""
    small = [row(i, {"f": i / 100}, {"f": -i / 100}) for i in (1, 2)]
    large = [row(i, {"f": i * 100.0}, {"f": -i * 100.0}, query_type="closed_ended") for i in (1, 2)]

    first, second = contributions([small, large])
    assert [one["f"] for one in first] == pytest.approx([one["f"] for one in second])


def test_a_recipe_that_gives_all_responses_one_reward_moves_by_the_other_one_only() -> None:
    groups = [[row(i, {"f": 0.1 + 0.2}, {"g": float(i)}) for i in range(3)]]

    assert [one["f"] for one in contributions(groups)[0]] == [0.0, 0.0, 0.0]


def test_movers_are_the_largest_movements_with_another_rank() -> None:
    groups = [rewards([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 9.0])]
    found = [compared(*pair) for pair in zip(groups, contributions(groups), strict=True)]
    first = movers(found, 9)

    assert {mover.number for mover in first} == {1, 2}
    assert (first[0].rank_a, first[0].rank_b) in {(3.0, 4.0), (4.0, 3.0)}
    assert len(movers(found, 1)) == 1


def test_places_run_from_the_best_to_the_worst() -> None:
    rows = rewards([3.0, 2.0, 1.0], [3.0, 2.0, 1.0])

    assert [(cell.a, cell.b, cell.n) for cell in places([compared(rows, [{}] * 3)])] == [
        (0.0, 0.0, 1), (0.5, 0.5, 1), (1.0, 1.0, 1),
    ]  # fmt: skip


# Intervals ------------------------------------------------------------------------------------------------------


def test_an_interval_covers_the_truth_about_as_often_as_it_states() -> None:
    random = Random(3)
    hits = 0
    for seed in range(200):
        sample = mean_over_prompts([random.gauss(0, 1) for _ in range(40)], seed)
        assert sample.low is not None
        assert sample.high is not None
        hits += sample.low <= 0 <= sample.high

    assert 0.88 <= hits / 200 <= 0.99


def test_grouping_many_prompts_leaves_the_width_of_an_interval() -> None:
    random = Random(4)
    values = [random.gauss(0, 1) for _ in range(5_000)]
    found = mean_over_prompts(values, 0)

    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(5_000), rel=0.15)


def test_the_seed_decides_the_interval_and_one_prompt_has_none() -> None:
    values = [1.0, 2.0, 5.0, 9.0]

    assert mean_over_prompts(values, 1) == mean_over_prompts(values, 1)
    assert mean_over_prompts(values, None).low is None
    assert (mean_over_prompts([1.0], 1).value, mean_over_prompts([1.0], 1).low) == (1.0, None)
    assert ratio_over_prompts([(1.0, 0.0)], 1).value is None


def test_a_share_of_none_or_all_has_a_width() -> None:
    """Wilson's interval; values of the formula for 0 of 20 and 5 of 20."""
    none, some = share_over_prompts(0, 20), share_over_prompts(5, 20)

    assert (none.low, none.high) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert (some.low, some.high) == pytest.approx((0.1119, 0.4687), abs=1e-4)
    assert share_over_prompts(0, 0).value is None
