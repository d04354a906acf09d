"""The report as one HTML page; every text from outside is escaped and cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from reward_client.diff.charts import features_chart, places_chart
from reward_client.diff.report import Agreement, GoldAgreement, Mover, Report, Subject
from reward_client.diff.table import across_lines, number, percent, rank_change, requirement_lines
from reward_client.html_page import cut, document, figure, is_visible, shown
from reward_client.intervals import Estimate

_MAX_NOTICE = 500


def render(report: Report) -> str:
    """The page: at most 1 MB, because texts are cut and the movers are counted."""
    return document(f"{report.a.name} and {report.b.name} compared", _body(report))


def _body(report: Report) -> Iterator[str]:
    yield f"<h1>How the rewards {_cut(report.a.name)} and {_cut(report.b.name)} order the same responses</h1>"
    yield f'<p class="soft">{_subject("A", report.a)} · {_subject("B", report.b)}</p>'
    yield f'<p class="soft">{_cut(report.source)} · {_cut(report.url)}</p>'
    yield from _figures(report)
    for line in requirement_lines(report):
        state = "ok" if report.requirement is not None and report.requirement.met else "bad"
        yield f'<p class="{state}">{escape(line)}</p>'
    if report.compared == "across_prompts":
        yield f"<p><b>{escape(' '.join(across_lines()))}</b></p>"
    for notice in report.notices:
        yield f'<p class="soft">{_cut(notice)}</p>'
    yield from _agreement(report)
    if report.golds:
        yield from _golds(report.golds)
    yield "<h2>Place of each response under A and B</h2>"
    yield (
        '<p class="soft">From the worst to the best response to its prompt. On the diagonal, A and B agree; the '
        "area of a circle is the number of responses.</p>"
    )
    yield places_chart(report.places)
    yield from _features(report)
    yield from _movers(report)
    yield from _errors(report)


def _subject(letter: str, subject: Subject) -> str:
    changed = f", changed by {_cut(subject.given)}" if subject.given != subject.name else ""
    encoder = f", encoder {_cut(subject.relevance)}" if subject.relevance else ""
    return f"{letter}: {_cut(subject.name)} ({escape(subject.hash[:12])}{changed}{encoder})"


def _figures(report: Report) -> Iterator[str]:
    yield '<div class="figures">'
    if report.compared == "within_prompts":
        of_all = report.agreement[0]
        yield figure("mean Kendall τ-b within prompts", number(of_all.tau_b))
        yield figure("of a prompt's pairs reordered", percent(of_all.ordered_differently))
        yield figure("of prompts: another best response", percent(of_all.best_changes))
    yield figure("prompts", str(report.n_prompts))
    yield figure("responses", str(report.n_rows))
    if report.n_single and report.compared == "within_prompts":
        yield figure("prompts with one response, left out", str(report.n_single))
    if report.n_errors:
        yield figure("rows without rewards", str(report.n_errors), "bad")
    yield "</div>"


def _agreement(report: Report) -> Iterator[str]:
    yield "<h2>Agreement by query type</h2>"
    heads = (
        "",
        "prompts",
        "responses",
        "Kendall τ-b",
        "reordered",
        "tied by one only",
        "best changes",
        "no order",
    )
    yield _table(heads, [_agreement_row(one) for one in report.agreement])
    yield (
        '<p class="soft">Means over prompts, with 95 % intervals by a bootstrap over prompts '
        f"(seed {report.seed}); best changes with Wilson’s interval. τ-b is 1 for the same order, 0 for unrelated "
        "ones, −1 for the opposite. No order: prompts for which A or B gives all responses one reward.</p>"
    )


def _agreement_row(one: Agreement) -> list[str]:
    shares = (one.ordered_differently, one.tied_by_one, one.best_changes)
    counts = [str(one.n_prompts), str(one.n_responses), number(one.tau_b)]
    return [one.query_type or "all", *counts, *map(percent, shares), str(one.n_without_order)]


def _golds(golds: Sequence[GoldAgreement]) -> Iterator[str]:
    yield "<h2>Agreement with gold</h2>"
    cells = []
    for gold in golds:
        rows: list[tuple[str, tuple[Estimate, ...]]] = [
            ("mean τ-b with gold within prompts", (gold.tau_a, gold.tau_b, gold.tau_difference))
        ]
        if gold.best_a.value is not None:
            best = (gold.best_a, gold.best_b, gold.best_difference)
            rows.append(("mean gold reward of the best response", best))
        cells += [[gold.model, label, *map(number, three), str(three[0].n_prompts)] for label, three in rows]
    yield _table(("gold model", "", "A", "B", "B − A, paired", "prompts"), cells)
    if len(golds) > 1:
        yield '<p class="soft">The first gold model is the primary one of the service.</p>'


def _features(report: Report) -> Iterator[str]:
    if not report.features:
        return
    yield "<h2>Features that move responses</h2>"
    yield (
        '<p class="soft">Share of the movements from A to B. A movement is the difference of the standardised '
        "rewards, and the sum of contributions of features: the exact parts of both rewards. Shares sum to 100 %; "
        "a negative one opposes the movements. Lines are 95 % intervals.</p>"
    )
    yield features_chart(report.features)


def _movers(report: Report) -> Iterator[str]:
    yield "<h2>Responses that move most</h2>"
    if not report.movers:
        yield "<p>No response changes its rank.</p>"
        return
    yield '<div class="head"><span></span><span class="bar-head">feature</span>'
    yield '<span class="number">rank A → B</span><span class="number">movement</span></div>'
    for mover in report.movers:
        yield from _mover(mover)


def _mover(mover: Mover) -> Iterator[str]:
    beginning = " ".join(mover.response.split())[:90]
    characters = len(beginning)
    if not is_visible(beginning):
        beginning, characters = mover.response[:90], mover.response_characters
    yield "<details>\n<summary>"
    yield f'<span><span class="name">{shown(beginning, characters)}</span>'
    yield f'<span class="about">row {mover.number}, {escape(mover.query_type)}</span></span>'
    yield f'<span class="wide-only">{_cut(mover.feature or "–", 30)}</span>'
    yield f'<span class="number">{rank_change(mover)}</span>'
    yield f'<span class="number">{mover.movement:+.2f}</span>\n</summary>\n<div class="inside">'
    yield f"<p><b>Prompt</b></p><pre>{shown(mover.prompt, mover.prompt_characters)}</pre>"
    yield f"<p><b>Response</b></p><pre>{shown(mover.response, mover.response_characters)}</pre>"
    gold = "" if mover.gold is None else f", gold {mover.gold:.4g}"
    yield f'<p class="soft">reward by A {mover.reward_a:.4g}, by B {mover.reward_b:.4g}{gold}</p>'
    rows = [[name, f"{value:+.3f}"] for name, value in mover.contributions.items()]
    yield _table(("feature", "contribution"), rows)
    yield "</div>\n</details>"


def _errors(report: Report) -> Iterator[str]:
    if not report.n_errors:
        return
    yield "<h2>Rows without rewards</h2>"
    for error in report.errors:
        yield f"<p>{_cut(error)}</p>"
    if report.n_errors > len(report.errors):
        yield f"<p>and {report.n_errors - len(report.errors)} more</p>"


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cut(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="figures-table"><tr>{head}</tr>{body}</table></div>'


def _cut(text: str, most: int = _MAX_NOTICE) -> str:
    return cut(text, most)
