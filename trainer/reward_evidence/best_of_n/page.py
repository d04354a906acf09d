"""The figures as one HTML page without scripts and external resources; every text from outside is escaped."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib.resources import files

from reward_client.html_page import cut, document, tables
from reward_client.wire import QueryType
from reward_evidence.best_of_n.examples import Example, Pick
from reward_evidence.best_of_n.figures import ALPHA, Curve, Point
from reward_evidence.best_of_n.result import BestOfN
from reward_evidence.report.charts import Line, Panel, Role
from reward_evidence.report.formatting import decimals_for, interval, percent, plain, signed
from reward_evidence.report.plots import render as draw
from reward_evidence.statistics.monotonicity import Estimate

_CSS = (files("reward_evidence.best_of_n") / "page.css").read_text(encoding="utf-8")
_SERIES: Sequence[Role] = ("series_1", "series_3", "series_4", "series_5", "series_6", "series_8")
_MAX_LINE_CHARS = 160
"""Of a prompt in the line that opens an example."""
_KL_AXIS = "KL from the policy (nats), at n = {}"


def panels(result: BestOfN) -> list[Panel]:
    """The charts: gold by KL, for all prompts and by query type, and the recipes' own rewards by KL."""
    curves, n = result.figures.curves, result.figures.n_prompts
    drawn = [*(c for c in curves if c.kind in ("longest", "random")), *(c for c in curves if c.kind == "recipe")]
    recipes = [curve for curve in curves if curve.kind == "recipe"]
    found = [
        _gold_panel("gold_by_kl", f"Gold of the pick, {n} prompts", drawn, lambda curve: curve.points),
        _reward_panel(recipes),
    ]
    types = list(curves[0].query_types)
    for query_type in types if len(types) > 1 else []:
        name, n = query_type.value, curves[0].query_types[query_type][0].gold.n
        title = f"{name.replace('_', '-').capitalize()}, {n} prompts"
        found.append(_gold_panel(f"gold_{name}", title, drawn, _points_of(query_type)))
    return found


def _points_of(query_type: QueryType) -> Callable[[Curve], list[Point]]:
    return lambda curve: curve.query_types[query_type]


def _gold_panel(name: str, title: str, curves: Sequence[Curve], points: Callable[[Curve], list[Point]]) -> Panel:
    lines = []
    for curve, role in zip(curves, _roles(curves), strict=True):
        found = points(curve)
        bounds = [
            (point.gold_change.low, point.gold_change.high)
            for point in found
            if point.gold_change.low is not None and point.gold_change.high is not None
        ]
        band = bounds if len(bounds) == len(found) and curve.kind == "recipe" else None
        values = [point.gold_change.mean for point in found]
        lines.append(Line(curve.name, role, [point.kl for point in found], values, band))
    axis = _KL_AXIS.format(", ".join(str(point.n) for point in points(curves[0])))
    note = "change from n = 1; bands: 95 % intervals"
    return Panel(name, title, axis, "change of gold reward", lines, note=note)


def _reward_panel(recipes: Sequence[Curve]) -> Panel:
    lines = [
        Line(
            curve.name,
            role,
            [point.kl for point in curve.points],
            [point.reward_change_sd or 0.0 for point in curve.points],
        )
        for curve, role in zip(recipes, _roles(recipes), strict=True)
    ]
    axis = _KL_AXIS.format(", ".join(str(point.n) for point in recipes[0].points))
    note = "change from n = 1, in standard deviations"
    return Panel("reward_by_kl", "Each recipe's own reward", axis, "change of own reward", lines, note=note)


def _roles(curves: Sequence[Curve]) -> list[Role]:
    recipes = [curve.name for curve in curves if curve.kind == "recipe"]
    series = {name: _SERIES[number % len(_SERIES)] for number, name in enumerate(recipes)}
    return [series.get(curve.name, "neutral") for curve in curves]


def render(result: BestOfN) -> str:
    """The page."""
    recipes = [curve.name for curve in result.figures.curves if curve.kind == "recipe"]
    title = f"Best of {result.figures.n_samples}: {', '.join(recipes)}"
    return document(title, _body(title, result), _CSS)


def _body(title: str, result: BestOfN) -> Iterator[str]:
    figures = result.figures
    yield f"<h1>{escape(title)}</h1>"
    yield f'<p class="soft">{escape(_origin(result))}</p>'
    for warning in result.warnings:
        yield f'<p class="bad">{escape(warning)}</p>'
    for notice in result.notices:
        yield f'<p class="soft">{escape(notice)}</p>'
    yield (
        f"<p>Every recipe picks from the <b>same</b> {figures.n_samples} samples of each of {figures.n_prompts} "
        f"prompts, and the gold model {escape(result.gold)} judges the pick. The more samples, the more a recipe "
        "is optimised, as training would do it: when gold falls while the recipe's own reward rises, it is "
        "over-optimised.</p>"
    )
    yield '<div class="charts">'
    for panel in panels(result):
        image = base64.b64encode(draw(panel).svg.encode()).decode()
        yield f'<img src="data:image/svg+xml;base64,{image}" alt="{escape(panel.alt)}" width="450" height="300">'
    yield "</div>"
    yield from _gold_table(figures.curves)
    yield from _other_golds(result)
    yield from _comparisons(result)
    yield from _by_type(figures.curves)
    yield from _examples(result.examples)
    yield from _details(result)


def _origin(result: BestOfN) -> str:
    source = result.settings["source"]
    name = source.get("policy") or source.get("model") or source.get("file")
    recipes = [f"{recipe} ({value})" for recipe, value in result.service["recipes"].items()]
    return f"samples of {name} · {', '.join(recipes)} · {result.created_at[:16].replace('T', ' ')} UTC"


def _gold_table(curves: Sequence[Curve]) -> Iterator[str]:
    points = curves[0].points
    yield "<h2>Gold of the picked response</h2>"
    heads = [f"n = {point.n}" for point in points]
    heads += [f"change to n = {points[-1].n}", "95 % interval", "share of possible", "words"]
    rows = [["KL, nats", *(plain(point.kl, 2) for point in points), "", "", "", ""]]
    rows += [[curve.name, *_gold_cells(curve)] for curve in curves]
    yield _table(heads, rows)
    yield (
        '<p class="soft">longest: the response with most words. random: the mean of all samples. gold: picked by '
        "the gold model itself, the most that any reward could reach. Share of possible: change of gold relative "
        "to that.</p>"
    )


def _other_golds(result: BestOfN) -> Iterator[str]:
    golds = result.figures.other_golds
    if not golds:
        return
    yield "<h2>Other gold models</h2>"
    heads = [head for name in golds for head in (name, "95 % interval")]
    rows = [
        [curve.name, *(cell for found in golds.values() for cell in _estimate_cells(found[curve.name]))]
        for curve in result.figures.curves
    ]
    yield _table(heads, rows)
    yield (
        f'<p class="soft">Change of each model\'s score from n = 1 to n = {result.figures.n_samples}, on its own '
        "scale. All other figures, comparisons and warnings rest on the primary gold model alone, "
        f"{escape(result.gold)}.</p>"
    )


def _gold_cells(curve: Curve) -> Iterator[str]:
    yield from (plain(point.gold.mean, 3) for point in curve.points)
    yield from _estimate_cells(curve.points[-1].gold_change)
    share = curve.share_of_possible
    yield "–" if share is None else f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"
    yield plain(curve.points[-1].words, 0)


def _estimate_cells(estimate: Estimate) -> Iterator[str]:
    yield signed(estimate.mean, decimals_for(estimate.low, estimate.high))
    yield interval(estimate.low, estimate.high, with_sign=True)


def _comparisons(result: BestOfN) -> Iterator[str]:
    found = result.figures.comparisons
    yield f"<h2>Differences in gold at n = {result.figures.n_samples}</h2>"
    rows = [
        [
            f"{one.first} − {one.second}",
            *_estimate_cells(one.difference),
            plain(one.p_value, 4),
            plain(one.p_adjusted, 4),
            f"{one.better} is better" if one.better else "undecided",
        ]
        for one in found
    ]
    yield _table(["difference", "95 % interval", "p", "p, adjusted", "verdict"], rows)
    yield (
        f'<p class="soft">Paired by prompt, n = {result.figures.n_prompts} prompts. A verdict needs an adjusted '
        f"p-value below {ALPHA:g}: Holm's method, {len(found)} comparisons. Undecided is not equal.</p>"
    )


def _by_type(curves: Sequence[Curve]) -> Iterator[str]:
    types = list(curves[0].query_types)
    if len(types) < 2:
        return
    yield "<h2>By query type</h2>"
    heads, rows = [], [[curve.name] for curve in curves]
    for query_type in types:
        n = curves[0].query_types[query_type][0].gold.n
        heads += [f"{query_type.value.replace('_', '-')} ({n})", "95 % interval"]
        for row, curve in zip(rows, curves, strict=True):
            row += _estimate_cells(curve.query_types[query_type][-1].gold_change)
    yield _table(heads, rows)
    n = curves[0].points[-1].n
    yield f'<p class="soft">Change of gold from n = 1 to n = {n}; in brackets: prompts.</p>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in ("", *heads))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="figures-table"><tr>{head}</tr>{body}</table></div>'


def _examples(examples: Sequence[Example]) -> Iterator[str]:
    if not examples:
        return
    yield "<h2>Where the recipes pick different responses</h2>"
    yield '<p class="soft">Among all samples of a prompt; the highest gold first.</p>'
    for example in examples:
        about = f"{example.rule}: {plain(example.gap, 2)} · {example.query_type.value.replace('_', '-')}"
        yield f'<details>\n<summary class="one"><span class="name">{cut(example.prompt, _MAX_LINE_CHARS)}</span>'
        yield f'<span class="about">{escape(about)}</span></summary>\n<div class="inside">'
        if len(example.prompt) > _MAX_LINE_CHARS:
            yield f"<pre>{cut(example.prompt)}</pre>"
        if example.reference is not None:
            references = example.reference if isinstance(example.reference, str) else json.dumps(example.reference)
            yield f'<p class="soft">reference: {cut(references)}</p>'
        yield '<div class="picks">'
        for pick in example.picks:
            yield _pick(pick)
        yield "</div></div>\n</details>"


def _pick(pick: Pick) -> str:
    truncated = ", cut at the token limit" if pick.truncated else ""
    return (
        f'<div class="answer"><h3><span>{escape(", ".join(pick.judges))}</span>'
        f"<span>gold {plain(pick.gold, 2)}</span></h3><pre>{cut(pick.response)}</pre>"
        f'<p class="soft">{pick.words} words{truncated}</p></div>'
    )


def _details(result: BestOfN) -> Iterator[str]:
    yield "<h2>How it was measured</h2>"
    yield from tables(
        {
            "Method": result.method,
            "Settings": result.settings,
            "Reward service": result.service,
            "Versions": result.versions,
        }
    )
