"""The figures of a comparison in sentences. Pure."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from reward_evidence.comparison.differences import Difference
from reward_evidence.comparison.group_figures import GroupFigures
from reward_evidence.report.formatting import decimals_for, interval, plain, signed
from reward_evidence.statistics.monotonicity import Verdict, is_unchanged, verdict_word
from reward_evidence.statistics.pooled import PooledEstimate

_MAX_LISTED = 12
"""Differences that have a sentence each; the table has all of them."""


class Findings(BaseModel):
    """The comparison in words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    headline: str
    sentences: list[str]
    """The differences, and the changes of each group."""
    limitations: list[str]


def describe(
    groups: Sequence[GroupFigures], differences: Sequence[Difference], notices: Sequence[str]
) -> Findings:
    """Describe the figures; `notices` are those of the reward service too."""
    is_demo = any("demo model" in notice.lower() for notice in notices)
    clear = [one for one in differences if one.verdict is not Verdict.UNDECIDED]
    listed = [_difference(one) for one in (clear or differences)[:_MAX_LISTED]]
    return Findings(
        headline=_headline(groups, differences, "demo gold" if is_demo else "gold")
        + _unknown_seeds(groups, differences),
        sentences=[*listed, *(_group(one) for one in groups)],
        limitations=_limitations(groups, differences, is_demo=is_demo),
    )


def _headline(groups: Sequence[GroupFigures], differences: Sequence[Difference], gold: str) -> str:
    clear = [one for one in differences if one.verdict is not Verdict.UNDECIDED]
    if len(groups) == 1:
        return f"{groups[0].label}: {_movement(groups[0], gold)}"
    if not differences:
        return "Gold was not measured, so the groups cannot be ranked"
    if not clear:
        return f"No difference in final {gold} is shown between {len(groups)} groups"
    if len(clear) == 1:
        more, less = _ordered(clear[0])
        return f"{more} ended with more {gold} than {less}{not_at_equal(clear)}"
    for group in groups:
        wins = [one for one in clear if _ordered(one)[0] == group.label]
        if len(wins) == len(groups) - 1:
            return f"{group.label} ended with more {gold} than every other group{not_at_equal(wins)}"
    lost = sum(bool(one.lost_at_equal) for one in clear)
    return (
        f"{len(clear)} of {len(differences)} differences in final {gold} are shown"
        f"{f', {lost} of them not, or not known, at equal length or truncation' if lost else ''}"
    )


def not_at_equal(wins: Sequence[Difference]) -> str:
    """`, but not than li at equal length`: which of `wins` are not shown there; all, if no group is named."""
    parts = []
    untold = [one.untold_at_equal for one in wins]
    shown = [[what for what in one.lost_at_equal if what not in one.untold_at_equal] for one in wins]
    for words, than, lost in (("not", "than", shown), ("it cannot be told", "for", untold)):
        others = [_ordered(one)[1] for one, found in zip(wins, lost, strict=True) if found]
        if others:
            which = "" if len(others) == len(wins) else f" {than} {' and '.join(others)}"
            named = [what for what in ("length", "truncation") if any(what in found for found in lost)]
            parts.append(f"{words}{which} at equal {' or '.join(named)}")
    return f", but {', and '.join(parts)}" if parts else ""


def _unknown_seeds(groups: Sequence[GroupFigures], differences: Sequence[Difference]) -> str:
    """What the headline leaves open where a group has one run."""
    n_single = sum(group.n_seeds == 1 for group in groups)
    compares = bool(differences) if len(groups) > 1 else groups[0].gold_change is not None
    if not n_single or not compares:
        return ""
    where = f"{n_single} of {len(groups)} groups {'has' if n_single == 1 else 'have'} one seed"
    if n_single == len(groups):
        where = "one seed each" if n_single > 1 else "one seed"
    return f" ({where}: the variation between seeds is unknown)"


def _ordered(difference: Difference) -> tuple[str, str]:
    """The group with more, the group with less."""
    pair = (difference.group, difference.other)
    return pair if difference.mean > 0 else (pair[1], pair[0])


def _movement(group: GroupFigures, gold: str) -> str:
    """Whether gold followed the proxy in a group."""
    if group.gold_change is None or group.proxy_change is None:
        return f"{gold} was not measured" if group.proxy_change else "one step: nothing to compare yet"
    of_gold, of_proxy = group.gold_change.verdict, group.proxy_change.verdict
    if of_gold is Verdict.UNDECIDED:
        words = [verdict_word(one.low, one.high) for one in (group.gold_change, group.proxy_change)]
        return f"{gold} and proxy {words[0]}" if words[0] == words[1] else f"{gold} {words[0]}, proxy {words[1]}"
    if of_gold is of_proxy:
        return f"{gold} and proxy {of_gold.value}"
    if of_gold is Verdict.ROSE:
        return f"{gold} rose although the proxy did not rise"
    return f"{gold} fell while the proxy {_did(group.proxy_change)}"


def _did(change: PooledEstimate) -> str:
    if change.verdict is Verdict.ROSE:
        return "rose"
    return "did not change" if is_unchanged(change.low, change.high) else "did not change clearly"


def _difference(one: Difference) -> str:
    more, less = _ordered(one)
    decimals = decimals_for(one.low, one.high)
    amount = f"{plain(abs(one.mean), decimals)} more final gold than {less}{not_at_equal([one])}"
    low, high = (one.low, one.high) if one.mean > 0 else (_negative(one.high), _negative(one.low))
    bounds = f"95 % interval {interval(low, high, with_sign=True)}"
    p = "no p-value" if one.p_adjusted is None else f"adjusted p {p_value(one.p_adjusted)}"
    shown = ": not shown to differ" if one.verdict is Verdict.UNDECIDED else seeds_left_open(one)
    return f"{more} has {amount} ({bounds}; {p}){shown}."


def seeds_left_open(one: Difference) -> str:
    """What a verdict leaves open: the seeds of a group with one run; empty when both have several."""
    if not one.one_seed:
        return ""
    which = "one seed each" if len(one.one_seed) == 2 else f"one seed of {one.one_seed[0]}"
    return f": {which}, another seed may reverse it"


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def p_value(value: float) -> str:
    """`= 0.03` or `< 0.001`."""
    return "< 0.001" if value < 0.001 else f"= {plain(value, 3 if value < 0.1 else 2)}"


def _group(group: GroupFigures) -> str:
    seeds = f"{group.n_seeds} seeds" if group.n_seeds > 1 else "one seed"
    text = f"{group.label} ({seeds}): {_movement(group, 'gold')}"
    known = {"gold": group.gold_change, "proxy": group.proxy_change, "words": group.words_change}
    changes = [f"{name} {_change(change)}" for name, change in known.items() if change]
    return (
        f"{text}; change from step {group.first.step} to {group.last.step}: {', '.join(changes)}."
        if changes
        else f"{text}."
    )


def _change(change: PooledEstimate) -> str:
    bounds = f" ({interval(change.low, change.high, with_sign=True)})" if change.low is not None else ""
    return f"{signed(change.mean, decimals_for(change.low, change.high))}{bounds}"


def _limitations(groups: Sequence[GroupFigures], differences: Sequence[Difference], *, is_demo: bool) -> list[str]:
    found = []
    if single := [group.label for group in groups if group.n_seeds == 1]:
        found.append(
            f"One seed only: {'; '.join(single)}. The variation between seeds is unknown there, its intervals "
            "cover the choice of prompts only, and another seed may reverse the order of the groups."
        )
    if any(1 < group.n_seeds < 5 for group in groups):
        found.append(
            "With fewer than five seeds the variation between seeds is poorly known; the intervals allow for that."
        )
    if is_demo:
        found.append("The gold model is a demo model: more of its reward does not show that responses are better.")
    if len({group.recipe_hash for group in groups}) > 1:
        found.append(
            "Proxy rewards of different recipes have different scales: compare their shape, not their size."
        )
    if len(differences) > 1:
        found.append(
            f"{len(differences)} differences were tested: p-values are adjusted for that, intervals are not."
        )
    if any((group.last.truncated.mean if group.last.truncated else 0) > 0.5 for group in groups):
        found.append("In some groups most of the last responses were truncated, so their ends were not scored.")
    if any(one.lost_at_equal for one in differences):
        found.append(
            "The difference at equal length or truncation is a diagnostic over prompts only: it assumes one slope "
            "for all prompts and that nothing else goes with length. Where longer answers are better, it leaves "
            "out a real gain."
        )
    found.append("A difference in gold is not its cause: two recipes differ in length, features and distance too.")
    return found
