"""The result as one HTML page without scripts and external resources; every text from outside is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files

from reward_client.html_page import cut, document, tables
from reward_client.wire import QueryType
from reward_evidence.engineer.findings import ENGINEERED, Disagreement, FeatureFinding
from reward_evidence.engineer.panels import adds_panel, calibration_panel, curve_panels
from reward_evidence.engineer.result import Comparison, Engineered, ProbeKind, TypeResult
from reward_evidence.engineer.rows import Row
from reward_evidence.engineer.summary import order
from reward_evidence.report.charts import Panel
from reward_evidence.report.driver_chart import BarPanel
from reward_evidence.report.formatting import decimals_for, interval, percent, plain, signed
from reward_evidence.report.plots import render as draw
from reward_evidence.statistics.monotonicity import Estimate

_CSS = (files("reward_evidence.engineer") / "page.css").read_text(encoding="utf-8")
_MAX_CHARS = 2_000
_INTERVAL = "95 % interval"


def render(result: Engineered, rows: Sequence[Row], labels: Mapping[str, str]) -> str:
    """The page; `rows` are the input, `labels` those of features by name."""
    title = f"{result.name}: a recipe that ranks as gold does"
    return document(title, _body(title, result, rows, labels))


def _body(title: str, result: Engineered, rows: Sequence[Row], labels: Mapping[str, str]) -> Iterator[str]:
    yield f"<style>\n{_CSS}</style>"
    yield f"<h1>{escape(title)}</h1>"
    about = f"{result.n_rows} responses · gold: {result.gold} · {result.created_at[:16].replace('T', ' ')} UTC"
    yield f'<p class="soft">{escape(about)}</p>'
    yield from _headline(result.overall)
    for warning in result.warnings:
        yield f'<p class="bad">{escape(warning)}</p>'
    for notice in result.notices:
        yield f'<p class="soft">{escape(notice)}</p>'
    yield "<h2>Held-out figures, all query types</h2>"
    yield _comparison(result.overall)
    yield (
        '<p class="soft">Every figure is about prompts that the recipe was not fitted on: number of factors, '
        "features, shapes and powers were chosen without them. Intervals: bootstrap over prompts, 95 %; gains are "
        "paired by prompt. longest: the reward is the number of words.</p>"
    )
    several = sum(one.comparison is not None for one in result.types.values()) > 1
    for kind in order(result.types):
        yield from _type(kind, result.types[kind], rows, labels, with_figures=several)
    yield from _probe(result)
    yield from _details(result)


def _headline(overall: Comparison) -> Iterator[str]:
    yield '<div class="figures">'
    for label, found in (
        ("held-out pairs ranked as gold does", overall.accuracy[ENGINEERED]),
        ("rank correlation with gold", overall.correlation[ENGINEERED]),
    ):
        bounds = interval(found.low, found.high)
        yield f'<div class="figure"><b>{_mean(found)}</b>{label}<br><span class="soft">{bounds}</span></div>'
    for name, gain in overall.accuracy_gain.items():
        bounds = interval(gain.low, gain.high, with_sign=True)
        yield (
            f'<div class="figure"><b>{signed(gain.mean, decimals_for(gain.low, gain.high))}</b>pairs, against '
            f'{escape(name)}<br><span class="soft">{bounds}</span></div>'
        )
    yield "</div>"


def _comparison(found: Comparison) -> str:
    heads = [text for one in ("pairs as gold", "rank correlation", "gain in pairs") for text in (one, _INTERVAL)]
    rows = []
    for name, accuracy in found.accuracy.items():
        gain = found.accuracy_gain.get(name)
        rows.append([name, *_cells(accuracy), *_cells(found.correlation[name]), *_optional(gain, sign=True)])
    n = found.accuracy[ENGINEERED].n
    return _table(heads, rows) + f'<p class="soft">{n} prompts whose responses gold ranks.</p>'


def _type(
    kind: QueryType, found: TypeResult, rows: Sequence[Row], labels: Mapping[str, str], *, with_figures: bool
) -> Iterator[str]:
    yield f"<h2>{kind.value.replace('_', '-').capitalize()}</h2>"
    yield f'<p class="formula">{escape(found.formula)}</p>'
    if found.not_fitted is not None or found.comparison is None:
        reason = escape(found.not_fitted or "")
        yield f'<p class="soft">Not fitted; the factors are those of the base recipe. {reason}</p>'
        return
    yield f'<p class="soft">{found.n_rows} responses, {found.n_prompts} prompts whose responses gold ranks.</p>'
    if with_figures:  # of a single type they are those of all, which are above
        yield _comparison(found.comparison)
    adds = adds_panel(found, labels)
    shown: list[Panel | BarPanel] = [] if adds is None else [adds]
    if found.calibration:
        shown.append(calibration_panel(list(found.calibration)))
    yield _charts(shown)
    yield "<h3>Factors, and gold by the same feature</h3>"
    yield _charts([panel for curve in found.curves for panel in curve_panels(curve, labels)])
    yield from _stability(found)
    yield from _features(found.features, len(found.fold_formulas))
    yield from _disagreements(found.disagreements, rows)


def _charts(panels: Sequence[Panel | BarPanel]) -> str:
    images = []
    for panel in panels:
        content = base64.b64encode(draw(panel).svg.encode()).decode()
        source, alt = f"data:image/svg+xml;base64,{content}", escape(panel.alt)
        images.append(f'<img src="{source}" alt="{alt}" width="450" height="300">')
    return f'<div class="charts">{"".join(images)}</div>'


def _stability(found: TypeResult) -> Iterator[str]:
    yield "<h3>How stable is the selection?</h3>"
    yield "<p>The recipes of the outer folds, each fitted without the prompts that it was judged on:</p>"
    rows = [[f"fold {n}", formula or "no factor"] for n, formula in enumerate(found.fold_formulas, 1)]
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    yield f'<div class="inside"><table>{body}</table></div>'
    sizes = ", ".join(f"{n}: {plain(value, 3)}" for n, value in enumerate(found.accuracy_by_size, 1))
    yield f'<p class="soft">Pairs ranked as gold by number of factors, in inner folds: {sizes}.</p>'


def _features(found: Sequence[FeatureFinding], n_folds: int) -> Iterator[str]:
    yield '<details><summary class="one"><span class="name">All features</span></summary><div class="inside">'
    shares = [text for one in ("adds", "gold prefers more", "of much") for text in (one, _INTERVAL)]
    heads = ["rows", "in folds", *shares]
    rows = [
        [
            one.name,
            percent(one.share_of_rows),
            f"{one.in_folds} of {n_folds}",
            *_optional(one.adds, sign=True),
            *_optional(one.prefers),
            *_optional(one.prefers_more_of_much),
        ]
        for one in found
    ]
    yield _table(heads, rows)
    yield (
        '<p class="soft">adds: held-out pairs lost without the factor. gold prefers more: share of pairs in which '
        "gold prefers the response with the higher value, whatever else differs; of much: the same when both "
        "values are above the upper quartile.</p></div></details>"
    )


def _disagreements(found: Sequence[Disagreement], rows: Sequence[Row]) -> Iterator[str]:
    if not found:
        return
    yield "<h3>Where recipe and gold disagree most</h3>"
    for one in found:
        better, worse = rows[one.preferred_by_gold], rows[one.preferred_by_recipe]
        prompt = better.item.prompt if isinstance(better.item.prompt, str) else better.item.prompt[-1].content
        yield f'<details><summary class="one"><span class="name">{cut(prompt, 160)}</span>'
        yield '</summary><div class="inside">'
        yield f'<pre>{cut(prompt, _MAX_CHARS)}</pre><div class="pair">'
        for title, row, gold, reward in (
            ("gold prefers", better, one.gold[0], one.reward[0]),
            ("the recipe prefers", worse, one.gold[1], one.reward[1]),
        ):
            scores = f"gold {gold:.3g} · recipe {reward:.3g}"
            yield f'<div class="answer"><h3><span>{title}</span><span>{scores}</span></h3>'
            yield f"<pre>{cut(row.item.response, _MAX_CHARS)}</pre></div>"
        yield "</div></div></details>"


def _probe(result: Engineered) -> Iterator[str]:
    probe = result.probe
    if probe is None:
        return
    yield "<h2>Probe: gamed and wrong responses</h2>"
    wins = percent(probe.accuracy)
    gold = "" if probe.gold_accuracy is None else f" By gold, it wins {percent(probe.gold_accuracy)}."
    yield (
        f"<p>The good answer wins {wins} of {probe.n_pairs} pairs, mean over {probe.n_kinds} kinds.{gold} "
        "probe.html has all kinds with examples.</p>"
    )
    for title, kinds in (("The recipe fails", probe.failing), ("Gold fails", probe.gold_failing)):
        if kinds:
            yield f"<h3>{title}</h3>"
            yield _table(["pairs", "recipe: good wins", "gold: good wins", "feature to blame"], _kind_rows(kinds))


def _kind_rows(kinds: Sequence[ProbeKind]) -> list[list[str]]:
    return [
        [kind.name, str(kind.pairs), percent(kind.accuracy), percent(kind.gold_accuracy), kind.to_blame or ""]
        for kind in kinds
    ]


def _details(result: Engineered) -> Iterator[str]:
    check = result.service
    service = {
        "rows scored by the service with this recipe": str(check.n),
        "largest difference to the fit": f"{check.largest_difference:.2e}",
        "recipe hash": check.recipe_hash,
        "rows with several references, left out": str(check.n_several_references),
    }
    settings = {**result.settings, "base recipe": result.base, "features": ", ".join(result.features)}
    yield "<h2>How it was made</h2>"
    yield from tables({"Method": result.method, "Settings": settings, "Service": service})


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in ("", *heads))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="grid"><tr>{head}</tr>{body}</table></div>'


def _cells(found: Estimate, *, sign: bool = False) -> list[str]:
    return [_mean(found, sign=sign), interval(found.low, found.high, with_sign=sign)]


def _optional(found: Estimate | None, *, sign: bool = False) -> list[str]:
    return ["", ""] if found is None else _cells(found, sign=sign)


def _mean(found: Estimate, *, sign: bool = False) -> str:
    return (signed if sign else plain)(found.mean, decimals_for(found.low, found.high))
