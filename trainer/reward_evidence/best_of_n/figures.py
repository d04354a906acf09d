"""The figures of best-of-n: curves by n, paired differences at the largest n, over-optimisation. Pure.

    JudgedSamples ──▶ gold, reward and words of each judge's pick, by prompt and n ──summarise──▶ Figures

A judge picks responses: a recipe, or one of three that need no recipe: `longest` (words), `random` (the mean of
all samples) and `gold` itself, above which nothing can be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from reward_client.wire import QueryType
from reward_evidence.best_of_n.estimator import kl_of_best, pick_probabilities, sizes
from reward_evidence.best_of_n.resampling import mean_estimates, resampled_means, sign_flip_p_values
from reward_evidence.sampling.samples import Sample
from reward_evidence.statistics.by_prompt import count_words
from reward_evidence.statistics.monotonicity import Estimate, FloatArray, quantile_interval
from reward_evidence.statistics.pooled import holm
from reward_runs.prompts import Prompt

GOLD, LONGEST, RANDOM = "gold", "longest", "random"
ALPHA = 0.05
"""Level of the adjusted p-values."""
JudgeKind = Literal["recipe", "longest", "random", "gold"]


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Point(_Figures):
    """What is expected of the response that a judge picks among n samples; means over prompts."""

    n: int
    kl: float
    """Nats from the policy, an upper bound."""
    gold: Estimate
    gold_change: Estimate
    """From n = 1, paired by prompt."""
    reward: Estimate
    """The judge's own reward, on its own scale."""
    reward_change: Estimate
    reward_change_sd: float | None
    """`reward_change` in standard deviations of the reward within a prompt; null for a constant reward."""
    words: float


class Share(_Figures):
    """A ratio of two means, with the 95 % bootstrap interval over prompts."""

    value: float
    low: float | None
    high: float | None


class Fall(_Figures):
    """Gold is lower at the largest n than at a smaller one, although the judge's own reward is higher."""

    since_n: int
    gold_change: Estimate
    reward_change: Estimate
    p_adjusted: float
    """Holm, for all smaller n of the recipe."""


class Curve(_Figures):
    """One judge."""

    name: str
    kind: JudgeKind
    points: list[Point]
    """By n."""
    query_types: dict[QueryType, list[Point]]
    share_of_possible: Share | None
    """Gold change at the largest n, as a share of that of `gold` itself; null when the latter is not clear."""
    falls: list[Fall]


class Comparison(_Figures):
    """Gold of the pick of one judge minus that of another, at the largest n, paired by prompt."""

    first: str
    second: str
    difference: Estimate
    p_value: float
    """Two-sided, sign flips over prompts."""
    p_adjusted: float
    """Holm, for all comparisons."""

    @property
    def better(self) -> str | None:
        """The judge with the higher gold; None when that is undecided."""
        if self.p_adjusted >= ALPHA:
            return None
        return self.first if self.difference.mean > 0 else self.second


class Figures(_Figures):
    """All figures."""

    n_prompts: int
    n_samples: int
    curves: list[Curve]
    comparisons: list[Comparison]
    other_golds: dict[str, dict[str, Estimate]] = {}
    """By the id of a gold model beside the primary one, and by judge: the change of its score from the pick at
    n = 1 to that at the largest n, paired by prompt."""


@dataclass(frozen=True)
class JudgedSamples:
    """P prompts, N samples of each, and their rewards."""

    prompts: tuple[Prompt, ...]
    samples: tuple[tuple[Sample, ...], ...]
    """By prompt, in the order of `prompts`."""
    gold: FloatArray
    """(P, N)"""
    recipes: Mapping[str, FloatArray]
    """(P, N) by recipe."""
    other_golds: Mapping[str, FloatArray] = field(default_factory=dict)
    """(P, N) by the id of a gold model beside the primary one."""
    words: FloatArray = field(init=False)
    """(P, N)"""

    def __post_init__(self) -> None:
        words = [[float(count_words(sample.response)) for sample in row] for row in self.samples]
        object.__setattr__(self, "words", np.array(words))

    def judges(self) -> dict[str, tuple[JudgeKind, FloatArray]]:
        """Kind and reward (P, N) of each judge, recipes first."""
        recipes: dict[str, tuple[JudgeKind, FloatArray]] = {
            name: ("recipe", rewards) for name, rewards in self.recipes.items()
        }
        return recipes | {
            LONGEST: ("longest", self.words),
            RANDOM: ("random", np.zeros_like(self.gold)),
            GOLD: ("gold", self.gold),
        }


@dataclass(frozen=True)
class _Picks:
    """Expectations of a judge's pick, (P, K) for K numbers of samples."""

    kind: JudgeKind
    gold: FloatArray
    reward: FloatArray
    words: FloatArray
    variance: FloatArray
    """Of the reward within each prompt, (P,)."""

    def sd(self, rows: FloatArray) -> float:
        """Standard deviation of the reward within a prompt, over those that `rows` (P,) selects."""
        return float(np.sqrt(self.variance[rows].mean()))

    def estimated(self) -> FloatArray:
        """The figures with intervals: (P, 4 K)."""
        changes = [values - values[:, :1] for values in (self.gold, self.reward)]
        return np.concatenate([self.gold, changes[0], self.reward, changes[1]], axis=1)


def summarise(judged: JudgedSamples) -> Figures:
    """Compute all figures."""
    n_values = sizes(judged.gold.shape[1])
    picks = {name: _picks(judged, kind, rewards, n_values) for name, (kind, rewards) in judged.judges().items()}
    types = np.array([prompt.query_type.value for prompt in judged.prompts])
    rows = {query_type: types == query_type.value for query_type in QueryType if query_type.value in types}
    points = _points(picks, n_values, np.ones(len(types), dtype=bool))
    by_type = {query_type: _points(picks, n_values, chosen) for query_type, chosen in rows.items()}
    falls = _falls({name: one for name, one in picks.items() if one.kind == "recipe"}, n_values)
    curves = [
        Curve(
            name=name,
            kind=one.kind,
            points=points[name],
            query_types={query_type: found[name] for query_type, found in by_type.items()},
            share_of_possible=_share(one, picks[GOLD]),
            falls=falls.get(name, []),
        )
        for name, one in picks.items()
    ]
    n_prompts, n_samples = judged.gold.shape
    return Figures(
        n_prompts=n_prompts,
        n_samples=n_samples,
        curves=curves,
        comparisons=_comparisons(picks),
        other_golds={name: _other_gold(judged, gold) for name, gold in judged.other_golds.items()},
    )


def _other_gold(judged: JudgedSamples, gold: FloatArray) -> dict[str, Estimate]:
    """The change of `gold` (P, N), which judges nothing else, from n = 1 to the largest n, by judge."""
    changes = {}
    for name, (_, rewards) in judged.judges().items():
        gained = pick_probabilities(rewards, rewards.shape[1]) - pick_probabilities(rewards, 1)
        changes[name] = (gained * gold).sum(axis=1)
    return dict(zip(changes, mean_estimates(np.stack(list(changes.values()), axis=1)), strict=True))


def _picks(judged: JudgedSamples, kind: JudgeKind, rewards: FloatArray, n_values: Sequence[int]) -> _Picks:
    chosen = [pick_probabilities(rewards, n) for n in n_values]

    def expected(values: FloatArray) -> FloatArray:
        return np.stack([(probabilities * values).sum(axis=1) for probabilities in chosen], axis=1)

    return _Picks(kind, expected(judged.gold), expected(rewards), expected(judged.words), rewards.var(axis=1))


def _points(picks: Mapping[str, _Picks], n_values: Sequence[int], rows: FloatArray) -> dict[str, list[Point]]:
    """The points of each judge, over the prompts that `rows` (P,) selects."""
    estimates = mean_estimates(np.concatenate([one.estimated()[rows] for one in picks.values()], axis=1))
    k = len(n_values)
    found = {}
    for number, (name, one) in enumerate(picks.items()):
        sd = one.sd(rows)
        own = estimates[4 * k * number : 4 * k * (number + 1)]
        found[name] = [
            Point(
                n=n,
                kl=kl_of_best(n),
                gold=own[i],
                gold_change=own[k + i],
                reward=own[2 * k + i],
                reward_change=own[3 * k + i],
                reward_change_sd=own[3 * k + i].mean / sd if sd > 0 else None,
                words=float(one.words[rows, i].mean()),
            )
            for i, n in enumerate(n_values)
        ]
    return found


def _share(one: _Picks, gold: _Picks) -> Share | None:
    changes = np.stack([pick.gold[:, -1] - pick.gold[:, 0] for pick in (one, gold)], axis=1)  # (P, 2)
    possible = mean_estimates(changes[:, 1:])[0]
    if possible.low is None or possible.low <= 0:
        return None
    resampled = resampled_means(changes)
    low, high = quantile_interval(resampled[:, 0] / resampled[:, 1])
    return Share(value=float(changes[:, 0].mean() / changes[:, 1].mean()), low=low, high=high)


def _falls(recipes: Mapping[str, _Picks], n_values: Sequence[int]) -> dict[str, list[Fall]]:
    """Where gold at the largest n is clearly lower than at a smaller n, and the recipe's reward clearly higher."""
    smaller = n_values[:-1]
    if not smaller or not recipes:
        return {}
    gold = np.concatenate([one.gold[:, -1:] - one.gold[:, :-1] for one in recipes.values()], axis=1)
    reward = np.concatenate([one.reward[:, -1:] - one.reward[:, :-1] for one in recipes.values()], axis=1)
    gold_changes, reward_changes, p_values = mean_estimates(gold), mean_estimates(reward), sign_flip_p_values(gold)
    found = {}
    for number, name in enumerate(recipes):
        own = slice(number * len(smaller), (number + 1) * len(smaller))
        rows = zip(smaller, gold_changes[own], reward_changes[own], holm(p_values[own].tolist()), strict=True)
        found[name] = [
            Fall(since_n=n, gold_change=gold_change, reward_change=reward_change, p_adjusted=p)
            for n, gold_change, reward_change, p in rows
            if p < ALPHA and gold_change.mean < 0 and (reward_change.low or 0.0) > 0
        ]
    return found


def _comparisons(picks: Mapping[str, _Picks]) -> list[Comparison]:
    """Each pair of recipes, and each recipe with `longest` and `random`."""
    recipes = [name for name, one in picks.items() if one.kind == "recipe"]
    pairs = [*combinations(recipes, 2), *((name, other) for name in recipes for other in (LONGEST, RANDOM))]
    if not pairs:
        return []
    differences = np.stack([picks[a].gold[:, -1] - picks[b].gold[:, -1] for a, b in pairs], axis=1)  # (P, C)
    p_values = sign_flip_p_values(differences)
    rows = zip(pairs, mean_estimates(differences), p_values, holm(p_values.tolist()), strict=True)
    return [
        Comparison(first=a, second=b, difference=difference, p_value=float(p), p_adjusted=adjusted)
        for (a, b), difference, p, adjusted in rows
    ]
