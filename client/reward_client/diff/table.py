"""The report as text for a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator

from reward_client.diff.report import GoldAgreement, Mover, Report, Subject
from reward_client.intervals import Estimate

WIDTH = 80
_N_MOVERS = 8
_N_FEATURES = 8


def render(report: Report) -> str:
    """Agreement, gold, features, the first movers, errors, and whether the requirement is met."""
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"A  {_subject(report.a)}"
    yield f"B  {_subject(report.b)}"
    yield f"{report.n_rows} responses to {report.n_prompts} prompts from {report.source}"
    if report.n_single and report.compared == "within_prompts":
        yield f"{report.n_single} of these prompts have one response, which has no rank, and are left out."
    if report.compared == "across_prompts":
        yield from across_lines()
    yield ""
    yield from _agreement(report)
    if report.golds:
        yield ""
        for gold in report.golds:
            yield from _gold(gold)
    if report.features:
        yield ""
        yield from _features(report)
    if report.movers:
        yield ""
        yield from _movers(report)
    yield ""
    yield from (f"note: {notice}" for notice in report.notices)
    if report.n_errors:
        yield f"{report.n_errors} rows have no rewards; the first: {report.errors[0]}"
    yield from requirement_lines(report)


def across_lines() -> Iterator[str]:
    """What a comparison without prompts of several responses can state."""
    yield "Every prompt has one response, so nothing can be stated about the order of"
    yield "responses to a prompt. Below, responses to different prompts are compared by"
    yield "query type, without intervals. Several responses a prompt give the figures"
    yield "that predict training."


def _subject(subject: Subject) -> str:
    changed = f" as changed by {subject.given}" if subject.given != subject.name else ""
    return f"{subject.name} ({subject.hash[:12]}){changed}"


def _agreement(report: Report) -> Iterator[str]:
    within = report.compared == "within_prompts"
    yield f"{'':14}{'prompts':>8}  {'Kendall τ-b':>20}  {'pairs reordered':>16}  {'best changes':>14}"
    for one in report.agreement:
        yield (
            f"{(one.query_type or 'all')[:13]:<14}{one.n_prompts:>8}  {number(one.tau_b):>20}  "
            f"{percent(one.ordered_differently):>16}  {percent(one.best_changes) if within else '-':>14}"
        )
    without = sum(one.n_without_order for one in report.agreement if one.query_type is not None)
    if without and within:
        yield f"{without} prompts have no τ-b: A or B gives all their responses the same reward."


def _gold(gold: GoldAgreement) -> Iterator[str]:
    rows = [("mean τ-b with gold", gold.tau_a, gold.tau_b, gold.tau_difference)]
    if gold.best_a.value is not None:
        rows.append(("mean gold of the best", gold.best_a, gold.best_b, gold.best_difference))
    for label, a, b, difference in rows:
        yield f"{label} ({a.n_prompts} prompts): {gold.model}"
        for letter, estimate in (("A", a), ("B", b), ("B - A", difference)):
            yield f"  {letter:<6}{number(estimate)}"


def _features(report: Report) -> Iterator[str]:
    yield "share of the movements from A to B by feature (they sum to 100%)"
    for one in report.features[:_N_FEATURES]:
        yield f"  {one.name[:40]:<40}  {percent(one.share):>20}"
    if len(report.features) > _N_FEATURES:
        yield f"  and {len(report.features) - _N_FEATURES} more"


def _movers(report: Report) -> Iterator[str]:
    yield f"{'row':>6}  {'rank by A → B':>15}  {'movement':>8}  feature, beginning of the response"
    for mover in report.movers[:_N_MOVERS]:
        text = " ".join(c for c in mover.response.split()) or "(empty)"
        visible = "".join(c if c.isprintable() else "·" for c in text)
        yield (
            f"{mover.number:>6}  {rank_change(mover):>15}  {mover.movement:>+8.2f}  "
            f"{mover.feature or '-'}: {visible}"
        )


def requirement_lines(report: Report) -> Iterator[str]:
    """Whether the requirement is met."""
    required = report.requirement
    if required is None:
        return
    if required.found is None:
        yield f"The required agreement of {required.agreement:g} is not met: no prompt has an order under A and B."
    else:
        state = "met" if required.met else "not met"
        yield f"The required agreement of {required.agreement:g} is {state}: mean τ-b is {required.found:.3f}."


def rank_change(mover: Mover) -> str:
    """`2 → 5 of 8`."""
    return f"{mover.rank_a:g} → {mover.rank_b:g} of {mover.n_responses}"


def number(estimate: Estimate) -> str:
    """`0.61 [0.52, 0.70]`."""
    if estimate.value is None:
        return "-"
    interval = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{interval}"


def percent(estimate: Estimate) -> str:
    """`12% [9, 16]`."""
    if estimate.value is None:
        return "-"
    bounds = [f"{100 * end:.0f}" for end in (estimate.low, estimate.high) if end is not None]
    return f"{100 * estimate.value:.0f}%" + (f" [{', '.join(bounds)}]" if bounds else "")
