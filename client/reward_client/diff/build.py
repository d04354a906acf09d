"""Builds the report of a comparison from its judged rows."""

from __future__ import annotations

from collections.abc import Sequence

from reward_client.diff.figures import (
    Compared,
    agreement,
    compared,
    feature_shares,
    gold_agreements,
    movers,
    places,
)
from reward_client.diff.judged import Judge, Judged, groups
from reward_client.diff.movement import contributions
from reward_client.diff.recipe import RecipeChoice
from reward_client.diff.report import Agreement, Report, Requirement, Subject
from reward_client.rows import MAX_REPORTED, FileError
from reward_client.wire import ScoreReply


def build(
    judge: Judge,
    choices: tuple[RecipeChoice, RecipeChoice],
    rows: Sequence[Judged],
    wrong: Sequence[str],
    *,
    source: str,
    url: str,
    seed: int = 0,
    n_movers: int = 20,
    required: float | None = None,
) -> Report:
    """The report of `rows`; `wrong` names those without a reward. Raises FileError when none can be compared."""
    by_prompt = groups(rows)
    several = [group for group in by_prompt if len(group) > 1]
    first, second = judge.replies
    if first is None or second is None or not rows:
        raise FileError(f"{source}: no row has rewards by both recipes:\n" + "\n".join(wrong[:MAX_REPORTED]))
    chosen = several or _by_query_type(rows)
    if not chosen:
        raise FileError(f"{source} has one response of each query type: a comparison needs two to the same prompt")
    found = [compared(*pair) for pair in zip(chosen, contributions(chosen), strict=True)]
    interval_seed = seed if several else None
    return Report(
        source=source,
        url=url,
        a=_subject(choices[0], first),
        b=_subject(choices[1], second),
        compared="within_prompts" if several else "across_prompts",
        n_rows=len(rows),
        n_prompts=len(by_prompt),
        n_single=len(by_prompt) - len(several),
        n_errors=len(wrong),
        errors=list(wrong[:MAX_REPORTED]),
        seed=seed,
        notices=_notices(judge),
        agreement=(orders := _agreements(found, interval_seed)),
        golds=gold_agreements(found, interval_seed),
        features=feature_shares(found, interval_seed),
        movers=movers(found, n_movers),
        places=places(found),
        requirement=_requirement(required, orders[0].tau_b.value if several else None),
    )


def _by_query_type(rows: Sequence[Judged]) -> list[list[Judged]]:
    """All responses of each query type as one group, where there are two or more."""
    found: dict[str, list[Judged]] = {}
    for row in rows:
        found.setdefault(row.query_type, []).append(row)
    return [group for group in found.values() if len(group) > 1]


def _agreements(found: Sequence[Compared], seed: int | None) -> list[Agreement]:
    """Of all query types together, unless prompts are compared with each other, and of each."""
    by_type: dict[str, list[Compared]] = {}
    for one in found:
        by_type.setdefault(one.rows[0].query_type, []).append(one)
    together = [agreement(found, None, seed)] if seed is not None else []
    return together + [agreement(group, name, seed) for name, group in sorted(by_type.items(), reverse=True)]


def _subject(choice: RecipeChoice, reply: ScoreReply) -> Subject:
    return Subject(
        given=choice.given, name=reply.recipe.name, hash=reply.recipe.hash, relevance=reply.models.relevance
    )


def _notices(judge: Judge) -> list[str]:
    notices = list(judge.notices)
    first, second = judge.replies
    if first is not None and second is not None and first.recipe.hash == second.recipe.hash:
        notices.append("A and B are the same recipe.")
    if judge.n_other_types:
        notices.append(
            f"{judge.n_other_types} rows have one query type under A and the other under B, because the recipes "
            "have different defaults; figures use that of A."
        )
    return notices


def _requirement(required: float | None, found: float | None) -> Requirement | None:
    if required is None:
        return None
    return Requirement(agreement=required, found=found, met=found is not None and found >= required)
