"""The report as text for a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from reward_client.probe.report import KindReport, Report

WIDTH = 80


def render(report: Report) -> str:
    """Figures by kind, the mean, errors, and whether the requirement is met."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    gold = report.gold_accuracy is not None
    yield f"{_subject(report)}"
    yield f"{report.n_prompts} prompts ({report.prompts}), {report.n_pairs} pairs of a good and a worse response"
    yield ""
    gold_column = "    gold" if gold else ""
    yield f"{'':24}{'pairs':>5}  {'worse wins':>10}{gold_column}  {'it earns':>8}  feature to blame"
    for group, kinds in groupby(report.kinds, key=lambda kind: kind.group):
        yield group
        for kind in kinds:
            yield _row(kind, gold=gold)
    yield ""
    yield "worse wins: share of pairs in which the worse response earns more; a tie is half."
    yield "it earns: its mean reward, in percent of the good answer's."
    yield ""
    yield from _verdict(report)


def _subject(report: Report) -> str:
    subject = report.subject
    recipe = f"recipe {subject['recipe']} ({(subject['recipe_hash'] or '')[:12]}) at " if subject["recipe"] else ""
    return f"{recipe}{subject['url']}, protocol {subject['protocol']}"


def _row(kind: KindReport, *, gold: bool) -> str:
    wins = "-" if kind.accuracy is None else percent(1 - kind.accuracy)
    by_gold = ("-" if kind.gold_accuracy is None else percent(1 - kind.gold_accuracy)).rjust(8) if gold else ""
    earns = "-" if kind.worse_share is None else percent(kind.worse_share)
    blamed = next(iter(kind.to_blame), "")
    row = f"  {kind.name[:22]:<22}{kind.pairs:>5}  {wins:>10}{by_gold}  {earns:>8}  {blamed}".rstrip()
    return row if len(row) <= WIDTH else f"{row[: WIDTH - 1]}…"


def _verdict(report: Report) -> Iterator[str]:
    if report.accuracy is None:
        yield "No pair has two rewards."
    else:
        yield f"The good answer wins {percent(report.accuracy)} of the pairs, mean over {len(report.kinds)} kinds."
    if report.gold_accuracy is not None:
        yield f"By the gold model it wins {percent(report.gold_accuracy)}."
    if report.n_errors:
        first = report.errors[0]
        yield f"{report.n_errors} pairs have no rewards; the first ({first.kind}): {first.message}"
    if report.requirement is not None:
        yield from requirement_lines(report)


def requirement_lines(report: Report) -> Iterator[str]:
    """Whether the requirement is met, or what falls short."""
    required = report.requirement
    if required is None:
        return
    if required.met:
        yield f"Every kind and the mean reach {required.accuracy:g}."
        return
    if required.mean_is_below:
        yield f"The mean is below {required.accuracy:g}."
    figures = {kind.name: kind.accuracy for kind in report.kinds}
    for name in required.kinds_below:
        yield f"{name} is below {required.accuracy:g}: {figures[name]:.3f}"
    if required.pairs_without_rewards:
        yield f"{required.pairs_without_rewards} pairs have no rewards, so the requirement is not met."


def percent(share: float) -> str:
    """A share in percent, with a digit after the point where rounding would hide the difference to 0 or 100."""
    value = 100 * share
    return f"{value:.1f}%" if 0 < value < 1 or 99 < value < 100 else f"{value:.0f}%"
