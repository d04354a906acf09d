"""The page of a report: one file without external assets, of at most MAX_PAGE_BYTES whatever the run's size. Pure.

    texts          cut after templating.MAX_TEXT_CHARS characters
    charts         in the order of the sections, while they fit into MAX_CHART_BYTES; all are in plots/
    checkpoints    MAX_CHECKPOINTS rows of the table: the first, the last, evenly spaced ones between
    settings       MAX_SETTINGS rows a table
    responses      in what remains: see `browser`

A small script searches and orders the responses. The page shows everything without it, and its policy allows no
other script.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.report.browser import MAX_PROMPTS, PromptRow, fitting, note, orders, prompt_rows, spaced
from reward_evidence.report.examples import choose_examples
from reward_evidence.report.plots import Drawing
from reward_evidence.report.settings_table import flat
from reward_evidence.report.templating import make_environment
from reward_runs.events import RunEvent
from reward_runs.record import RunRecord

MAX_PAGE_BYTES = 4_900_000
MAX_CHART_BYTES = 2_000_000
"""Of all charts as SVG, before base64, which adds a third."""
MAX_CHECKPOINTS = 100
MAX_SETTINGS = 200
_SECTIONS = {
    "findings": "Findings",
    "drivers": "What drove the reward",
    "rewards": "Proxy and gold over the checkpoints",
    "golds": "Several gold models",
    "query-types": "By query type",
    "features": "Features of the proxy",
    "distributions": "Distributions of the rewards",
    "length": "Length and truncation",
    "training": "During training",
    "examples": "Examples, first and last checkpoint",
    "responses": "All responses, first and last checkpoint",
    "settings": "Settings, versions, hashes",
}
"""Anchor and title of each section, in the order of the page."""


def render(
    evaluation: Evaluation,
    sections: Mapping[str, Sequence[Drawing]],
    first: Sequence[EvaluatedResponse],
    last: Sequence[EvaluatedResponse],
    record: Mapping[str, Any],
    n_steps: int | None = None,
    events: Sequence[RunEvent] = (),
) -> str:
    """Return the page. All texts are escaped.

    Args:
        evaluation: the figures.
        sections: the charts by section; see `charts.panels`.
        first: responses of the first checkpoint.
        last: responses of the last checkpoint.
        record: content of the run's record; empty for other sources.
        n_steps: training steps that were done; None: those of the last checkpoint.
        events: those of the run; the last MAX_SETTINGS are shown.
    """
    environment = make_environment({feature.name: feature.label for feature in evaluation.features})
    several = len(evaluation.checkpoints) > 1
    shown, n_left_out = _that_fit(sections)
    rows = prompt_rows(first if several else [], last)
    context = {
        "evaluation": evaluation,
        "origin": _origin(evaluation, record, n_steps),
        "sections": shown,
        "n_charts_left_out": n_left_out,
        "drivers": evaluation.trend.drivers,
        "golds": evaluation.golds,
        "example_groups": choose_examples(first, last) if several else [],
        "table_checkpoints": _spaced(evaluation.checkpoints, MAX_CHECKPOINTS),
        "events": list(events)[-MAX_SETTINGS:],
        "tables": _tables(evaluation, record),
    }
    context |= _script() | {"titles": _SECTIONS, "contents": _contents(context)}
    template = environment.get_template("report.html.j2")
    browser = {
        "orders": orders(rows),
        "query_types": list(dict.fromkeys(row.query_type for row in rows)),
        "note": note(len(rows) - 1, len(rows)),  # the longer form
    }
    without_rows = template.render(context | {"browser": browser | {"rows": []}})
    chosen = _rows_that_fit(environment, evaluation, rows, MAX_PAGE_BYTES - len(without_rows.encode()))
    browser |= {"rows": chosen, "note": note(len(chosen), len(rows))}
    return template.render(context | {"browser": browser})


def _script() -> dict[str, Markup]:
    """The script of the page, and its hash, by which the page's policy allows it."""
    script = files("reward_evidence").joinpath("report/templates/browser.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": Markup(script), "script_hash": Markup(f"'sha256-{digest}'")}  # noqa: S704 - ours


def _that_fit(sections: Mapping[str, Sequence[Drawing]]) -> tuple[dict[str, list[Drawing]], int]:
    """Return the charts that the page has room for, and the number of the others."""
    room, n_left_out = MAX_CHART_BYTES, 0
    shown: dict[str, list[Drawing]] = {name: [] for name in ("distributions", *sections)}
    for name, drawings in sections.items():
        for drawing in drawings:
            room -= len(drawing.svg.encode())
            if room >= 0:
                shown[name].append(drawing)
            else:
                n_left_out += 1
    return shown, n_left_out


def _rows_that_fit(
    environment: Environment, evaluation: Evaluation, rows: Sequence[PromptRow], room: int
) -> list[Markup]:
    macros = environment.get_template("macros.html.j2").module
    steps = evaluation.checkpoints[0].step, evaluation.checkpoints[-1].step
    rendered = [macros.row(row, *steps) for row in _spaced(rows, MAX_PROMPTS)]  # type: ignore[attr-defined]
    return [rendered[i] for i in fitting([len(row.encode()) for row in rendered], room)]


def _spaced(items: Sequence[Any], limit: int) -> list[Any]:
    return [items[i] for i in spaced(limit, len(items))]


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = {
        "drivers": context["drivers"],
        "golds": context["golds"],
        "distributions": context["sections"]["distributions"],
        "training": context["sections"]["training"] or context["events"],
        "examples": context["example_groups"],
    }
    return [(name, title) for name, title in _SECTIONS.items() if shown.get(name, True)]


def _origin(evaluation: Evaluation, record: Mapping[str, Any], n_steps: int | None) -> str:
    """The reward with the hash of what was really computed, and the prompts, in one line."""
    recipe, settings = evaluation.service["recipe"], evaluation.settings
    overrides = ", ".join(f"{name} {value}" for name, value in settings["recipe_overrides"].items())
    parts = [f"recipe {recipe['name']} {recipe['hash']}" + (f" (with {overrides})" if overrides else "")]
    if gold := evaluation.service.get("gold"):
        n_golds = len(evaluation.golds.models) if evaluation.golds else 1
        parts.append(f"gold {gold['id']}" + (f" (primary of {n_golds})" if n_golds > 1 else ""))
    if policy := record.get("policy"):
        parts.append(f"policy {policy}")
    parts.append(f"evaluated on {evaluation.trend.n_prompts} prompts")
    if record:
        done = evaluation.checkpoints[-1].step if n_steps is None else n_steps
        if text := RunRecord.model_validate(record).training_prompts(done):
            parts.append(text)
    return " · ".join(parts)


def _tables(evaluation: Evaluation, record: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return titles and (name, value) rows of everything that the figures depend on."""
    parts: dict[str, Mapping[str, Any]] = {
        "Method": evaluation.method,
        "Evaluation": {"evaluated at": evaluation.created_at, **evaluation.settings},
        "Reward service": evaluation.service,
        "Training run (config.json)": {name: value for name, value in record.items() if name != "service"},
        "Versions (evaluation)": evaluation.versions,
        "Hashes (SHA-256)": evaluation.hashes,
    }
    return {title: _bounded(flat(part)) for title, part in parts.items() if part}


_CLEARER = {
    "recipe_hash": "recipe_hash (without the overrides)",
    "recipe.hash": "recipe.hash (with the overrides)",
    "n_training_prompts": "n_training_prompts (of the file)",
}
"""Names of settings that are ambiguous without their table."""


def _bounded(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    rows = [(_CLEARER.get(name, name), value) for name, value in found]
    n_more = len(rows) - MAX_SETTINGS
    return rows if n_more <= 0 else [*rows[:MAX_SETTINGS], ("…", f"{n_more} more in evaluation.json")]
