"""Figures of a comparison, from groups of judged rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from reward_client.diff.judged import Group, Judged
from reward_client.diff.movement import Contributions
from reward_client.diff.ranks import PairCounts, best, pair_counts, ranks
from reward_client.diff.report import Agreement, Cell, FeatureShare, GoldAgreement, Mover
from reward_client.intervals import Estimate, mean_over_prompts, ratio_over_prompts, share_over_prompts

_CELLS = 20
"""Places are counted in twentieths."""
MAX_PROMPT_CHARS = 1_000
MAX_RESPONSE_CHARS = 2_000
MAX_CONTRIBUTIONS = 12
"""Features listed for one mover."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A group with its orders by A and by B."""

    rows: Group
    contributions: Sequence[Contributions]
    pairs: PairCounts
    ranks_a: Sequence[float]
    ranks_b: Sequence[float]
    best_changes: bool


def compared(rows: Group, contributions: Sequence[Contributions]) -> Compared:
    """The orders of `rows`."""
    a, b = [row.a.reward for row in rows], [row.b.reward for row in rows]
    changes = not set(best(a)) & set(best(b))
    return Compared(rows, contributions, pair_counts(a, b), ranks(a), ranks(b), changes)


def agreement(found: Sequence[Compared], query_type: str | None, seed: int | None) -> Agreement:
    """Agreement over `found`, of one query type or all of them.

    Without `seed`, a group has the responses to different prompts: no intervals, and no best response to a prompt.
    """
    taus = [tau for one in found if (tau := one.pairs.tau_b) is not None]
    pairs = [one.pairs for one in found]
    n_responses = sum(len(one.rows) for one in found)
    n_best = 0 if seed is None else len(found)
    return Agreement(
        query_type=query_type,
        n_prompts=n_responses if seed is None else len(found),
        n_responses=n_responses,
        tau_b=mean_over_prompts(taus, seed),
        n_without_order=len(found) - len(taus),
        ordered_differently=mean_over_prompts([one.discordant / one.n for one in pairs], seed),
        tied_by_one=mean_over_prompts(
            [(one.tied_a + one.tied_b - 2 * one.tied_both) / one.n for one in pairs], seed
        ),
        best_changes=share_over_prompts(sum(one.best_changes for one in found), n_best),
    )


def gold_agreements(found: Sequence[Compared], seed: int | None) -> list[GoldAgreement]:
    """Agreement with each gold model that scored all responses, the primary one first."""
    rows = [row for one in found for row in one.rows]
    models = [model for model in rows[0].golds if all(model in row.golds for row in rows)]
    return [_gold_agreement(found, model, seed) for model in models]


def _gold_agreement(found: Sequence[Compared], model: str, seed: int | None) -> GoldAgreement:
    taus, picks = [], []
    for one in found:
        golds = [row.golds[model] for row in one.rows]
        a, b = [row.a.reward for row in one.rows], [row.b.reward for row in one.rows]
        tau = pair_counts(a, golds).tau_b, pair_counts(b, golds).tau_b
        if tau[0] is not None and tau[1] is not None:
            taus.append((tau[0], tau[1]))
        if seed is not None:
            picks.append((fmean(golds[i] for i in best(a)), fmean(golds[i] for i in best(b))))
    return GoldAgreement(
        model=model,
        **dict(zip(("tau_a", "tau_b", "tau_difference"), _paired(taus, seed), strict=True)),
        **dict(zip(("best_a", "best_b", "best_difference"), _paired(picks, seed), strict=True)),
    )


def _paired(pairs: Sequence[tuple[float, float]], seed: int | None) -> list[Estimate]:
    """The means of the first and of the second numbers, and of the differences."""
    columns = [a for a, _ in pairs], [b for _, b in pairs], [b - a for a, b in pairs]
    return [mean_over_prompts(column, seed) for column in columns]


def feature_shares(found: Sequence[Compared], seed: int | None) -> list[FeatureShare]:
    """The share of each feature in the movements, the largest first; features without effect are left out."""
    names = dict.fromkeys(name for group in found for one in group.contributions for name in one)
    squares = [sum(sum(one.values()) ** 2 for one in group.contributions) for group in found]
    shares = []
    for name in names:
        products = [sum(one.get(name, 0.0) * sum(one.values()) for one in group.contributions) for group in found]
        if any(products):
            estimate = ratio_over_prompts(list(zip(products, squares, strict=True)), seed)
            shares.append(FeatureShare(name=name, share=estimate))
    return sorted(shares, key=lambda one: -(one.share.value or 0.0))


def places(found: Sequence[Compared]) -> list[Cell]:
    """Responses by their places under A and under B."""
    count: Counter[tuple[float, float]] = Counter()
    for one in found:
        last = len(one.rows) - 1
        count.update((_place(a, last), _place(b, last)) for a, b in zip(one.ranks_a, one.ranks_b, strict=True))
    return [Cell(a=a, b=b, n=n) for (a, b), n in sorted(count.items())]


def _place(rank: float, last: int) -> float:
    return round((rank - 1) / last * _CELLS) / _CELLS


def movers(found: Sequence[Compared], n: int) -> list[Mover]:
    """The `n` responses with the largest movements among those whose rank changes."""
    moved = [
        (abs(sum(one.contributions[i].values())), -row.number, one, i)
        for one in found
        for i, row in enumerate(one.rows)
        if one.ranks_a[i] != one.ranks_b[i]
    ]
    moved.sort(key=lambda entry: entry[:2], reverse=True)
    return [_mover(one, i) for _, _, one, i in moved[:n]]


def _mover(one: Compared, i: int) -> Mover:
    row, contributions = one.rows[i], one.contributions[i]
    prompt = _prompt_text(row)
    largest = sorted(contributions.items(), key=lambda pair: -abs(pair[1]))
    shown = dict(largest[:MAX_CONTRIBUTIONS])
    if rest := largest[MAX_CONTRIBUTIONS:]:
        shown["others"] = sum(value for _, value in rest)
    return Mover(
        number=row.number,
        query_type=row.query_type,
        prompt=prompt[:MAX_PROMPT_CHARS],
        prompt_characters=len(prompt),
        response=row.item.response[:MAX_RESPONSE_CHARS],
        response_characters=len(row.item.response),
        n_responses=len(one.rows),
        rank_a=one.ranks_a[i],
        rank_b=one.ranks_b[i],
        reward_a=row.a.reward,
        reward_b=row.b.reward,
        gold=row.gold,
        movement=sum(contributions.values()),
        contributions=shown,
    )


def _prompt_text(row: Judged) -> str:
    if isinstance(row.item.prompt, str):
        return row.item.prompt
    return "\n".join(f"{message.role}: {message.content}" for message in row.item.prompt)
