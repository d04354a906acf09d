"""The report as one HTML page; every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from reward_client.html_page import document, figure, shown
from reward_client.probe.report import Answer, Example, KindReport, Report
from reward_client.probe.table import percent, requirement_lines

_N_MOST_COSTLY = 6


def render(report: Report) -> str:
    """The page."""
    return document(f"What {_name(report)} pays for", _body(report))


def _name(report: Report) -> str:
    return str(report.subject["recipe"] or report.subject["url"])


def _body(report: Report) -> Iterator[str]:
    yield f"<h1>What the reward {escape(_name(report))} pays for</h1>"
    yield f'<p class="soft">{escape(_origin(report))}</p>'
    yield from _figures(report)
    for notice in report.subject["notices"]:
        yield f'<p class="soft">{escape(notice)}</p>'
    yield (
        "<p>Each row is a kind of gamed or wrong response, scored beside a good answer to the same prompt. "
        "<b>Worse wins</b> is the share of pairs in which it earns more than the good answer (a tie counts half); "
        "<b>it earns</b> is its mean reward in percent of the good answer's. A row opens to the examples "
        "in which it earned most, compared with the good answer.</p>"
    )
    yield from _most_costly(report)
    for group, kinds in groupby(report.kinds, key=lambda kind: kind.group):
        yield f"<h2>{escape(group.capitalize())}</h2>"
        yield (
            '<div class="head"><span></span><span class="bar-head"></span>'
            '<span class="number">worse wins</span><span class="number">it earns</span></div>'
        )
        for kind in kinds:
            yield from _kind(kind, report)
    yield from _errors(report)


def _origin(report: Report) -> str:
    subject = report.subject
    parts = [
        f"recipe {subject['recipe']} ({subject['recipe_hash']})" if subject["recipe"] else "",
        f"{subject['url']}, protocol {subject['protocol']}",
        ", ".join(f"{key} {value}" for key, value in subject["models"].items() if "revision" not in key),
    ]
    return " · ".join(filter(None, parts))


def _figures(report: Report) -> Iterator[str]:
    required = report.requirement
    yield '<div class="figures">'
    yield figure("good answer wins, mean over kinds", _optional(report.accuracy))
    if report.gold_accuracy is not None:
        yield figure("by the gold model", percent(report.gold_accuracy))
    yield figure("kinds", str(len(report.kinds)))
    yield figure(f"pairs from {report.n_prompts} prompts ({report.prompts})", str(report.n_pairs))
    if report.n_errors:
        yield figure("pairs without rewards", str(report.n_errors), "bad")
    if required is not None:
        state = ("met", "ok") if required.met else ("not met", "bad")
        yield figure(f"required: {required.accuracy:g}", *state)
    yield "</div>"
    if required is not None and not required.met:
        yield "".join(f'<p class="bad">{escape(line)}</p>' for line in requirement_lines(report))


def _most_costly(report: Report) -> Iterator[str]:
    lost = sorted((1 - kind.accuracy, kind.name) for kind in report.kinds if kind.accuracy is not None)
    worst = [
        f"{escape(name)} <b>{percent(share)}</b>" for share, name in reversed(lost[-_N_MOST_COSTLY:]) if share > 0
    ]
    yield f"<p>Worse wins most often: {', '.join(worst)}.</p>" if worst else "<p>No worse response wins.</p>"


def _kind(kind: KindReport, report: Report) -> Iterator[str]:
    lost = 0.0 if kind.accuracy is None else 1 - kind.accuracy
    below = report.requirement is not None and kind.name in report.requirement.kinds_below
    wins = "–" if kind.accuracy is None else percent(lost)
    yield "<details>\n<summary>"
    yield f'<span><span class="name">{escape(kind.name)}</span>'
    yield f'<span class="about">{escape(kind.summary)}</span></span>'
    yield f'<span class="bar"><i style="width: {100 * lost:.1f}%"></i></span>'
    yield f'<span class="number{" bad" if below else ""}">{wins}</span>'
    yield f'<span class="number">{_optional(kind.worse_share)}</span>\n</summary>\n<div class="inside">'
    yield f'<p class="soft">{escape(_details(kind))}</p>'
    for example in kind.examples:
        yield from _example(example)
    yield "</div>\n</details>"


def _details(kind: KindReport) -> str:
    parts = [f"{kind.pairs} pairs, {kind.ties} ties"]
    if kind.good_reward is not None and kind.worse_reward is not None:
        parts.append(f"mean reward {kind.worse_reward:.3f}, of the good answers {kind.good_reward:.3f}")
    if kind.gold_accuracy is not None:
        parts.append(f"by the gold model the worse one wins {percent(1 - kind.gold_accuracy)}")
    if kind.to_blame:
        parts.append("to blame: " + ", ".join(f"{name} ({n})" for name, n in kind.to_blame.items()))
    if kind.errors:
        parts.append(f"{kind.errors} pairs without rewards")
    return "; ".join(parts)


def _example(example: Example) -> Iterator[str]:
    reference = f" <span class='soft'>(reference: {escape(example.reference)})</span>" if example.reference else ""
    yield f"<p><b>Prompt</b></p><pre>{escape(example.prompt)}</pre>{reference}"
    yield '<div class="pair">'
    wins = example.worse.reward > example.good.reward
    yield from _answer("good answer", example.good)
    yield from _answer("worse response", example.worse, blamed=example.to_blame, style="bad" if wins else "")
    yield "</div>"


def _answer(title: str, answer: Answer, *, blamed: str | None = None, style: str = "") -> Iterator[str]:
    reward = f'<span class="{style}">reward {answer.reward:.4g}</span>'
    yield f'<div class="answer"><h3><span>{title}</span>{reward}</h3>'
    yield f"<pre>{shown(answer.response, answer.characters)}</pre>"
    rows = [(name, value) for name, value in answer.factors.items()]
    if answer.gold is not None:
        rows.append(("gold model", answer.gold))
    if rows:
        cells = [
            f"<tr><td{' class=blamed' if name == blamed else ''}>{escape(name)}</td><td>{value:.4g}</td></tr>"
            for name, value in rows
        ]
        yield f"<table>{''.join(cells)}</table>"
    if answer.flags:
        yield f'<p class="soft">flags: {escape(", ".join(answer.flags))}</p>'
    yield "</div>"


def _errors(report: Report) -> Iterator[str]:
    if not report.errors:
        return
    yield "<h2>Pairs without rewards</h2>"
    for error in report.errors:
        prompt = f'<span class="soft">({escape(error.prompt)})</span>'
        yield f"<p>{escape(error.kind)}: {escape(error.message)} {prompt}</p>"
    if report.n_errors > len(report.errors):
        yield f"<p>and {report.n_errors - len(report.errors)} more</p>"


def _optional(share: float | None) -> str:
    return "–" if share is None else percent(share)
