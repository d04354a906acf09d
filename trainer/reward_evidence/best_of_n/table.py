"""The figures as lines of text for a terminal."""

from collections.abc import Iterator

from reward_evidence.best_of_n.figures import Comparison, Curve
from reward_evidence.best_of_n.result import BestOfN
from reward_evidence.report.formatting import decimals_for, interval, percent, plain, signed
from reward_evidence.statistics.monotonicity import Estimate


def lines(result: BestOfN) -> Iterator[str]:
    """Gold by n, changes, comparisons, warnings."""
    figures = result.figures
    width = max(len(curve.name) for curve in figures.curves) + 2
    sizes = [point.n for point in figures.curves[0].points]
    yield (
        f"gold ({result.gold}) of the picked response, mean over {figures.n_prompts} prompts with "
        f"{figures.n_samples} samples each"
    )
    yield ""
    heads = "".join(f"{f'n={n}':>9}" for n in sizes)
    yield f"{'':<{width}}{heads}{'change, 95 %':>28}{'of possible':>13}{'words':>8}"
    yield f"{'KL, nats':<{width}}" + "".join(f"{point.kl:>9.2f}" for point in figures.curves[0].points)
    for curve in figures.curves:
        yield f"{curve.name:<{width}}{_row(curve)}"
    yield ""
    n_comparisons = len(figures.comparisons)
    yield f"gold at n = {sizes[-1]}, paired by prompt; p-values adjusted for {n_comparisons} comparisons"
    for comparison in figures.comparisons:
        yield f"  {comparison_line(comparison)}"
    for name, found in figures.other_golds.items():
        yield f"{name}, beside the primary gold model: change from n = 1 to n = {sizes[-1]}"
        for judge, change in found.items():
            yield f"  {judge:<{width}}{_with_interval(change)}"
    for warning in result.warnings:
        yield f"warning: {warning}"
    for notice in result.notices:
        yield f"notice: {notice}"


def _row(curve: Curve) -> str:
    last = curve.points[-1]
    shown = _with_interval(last.gold_change)
    share = percent(curve.share_of_possible.value) if curve.share_of_possible else "–"
    golds = "".join(f"{plain(point.gold.mean, 3):>9}" for point in curve.points)
    return f"{golds}{shown:>28}{share:>13}{last.words:>8.0f}"


def _with_interval(estimate: Estimate) -> str:
    shown = signed(estimate.mean, decimals_for(estimate.low, estimate.high))
    return f"{shown} ({interval(estimate.low, estimate.high, with_sign=True)})"


def comparison_line(comparison: Comparison) -> str:
    """Return `rer − li: +0.12 (+0.03 to +0.21), p = 0.0100: rer is better`."""
    shown = _with_interval(comparison.difference)
    verdict = f"{comparison.better} is better" if comparison.better else "undecided"
    p_value = plain(comparison.p_adjusted, 4)
    return f"{comparison.first} − {comparison.second}: {shown}, p = {p_value}: {verdict}"
