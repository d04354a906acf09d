"""The environment of the pages' templates: everything escaped, numbers and names as text."""

import base64
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reward_evidence.report import formatting
from reward_evidence.statistics.assessment import factor_noun
from reward_evidence.statistics.monotonicity import verdict_word

MAX_TEXT_CHARS = 4_000
"""Of a prompt, a reference or a response on a page."""


def render(template: str, labels: Mapping[str, str], **values: Any) -> str:
    """Return the page `template` with `values`; `labels` are the names of features. All texts are escaped."""
    return make_environment(labels).get_template(template).render(**values)


def make_environment(labels: Mapping[str, str]) -> Environment:
    """Return the environment of all templates, with autoescaping."""
    environment = Environment(
        loader=PackageLoader("reward_evidence", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        interval=formatting.interval, decimals_for=formatting.decimals_for, verdict_word=verdict_word
    )
    environment.filters |= {
        "plain": formatting.plain,
        "signed": formatting.signed,
        "percent": formatting.percent,
        "estimate": estimate,
        "cut": cut,
        "factor": lambda name: factor_noun(name, labels).capitalize(),
        "label": lambda name: name.replace("_", "-"),  # open-ended for open_ended
        "tidy": lambda sentence: sentence.replace(" %", "\N{NO-BREAK SPACE}%"),  # in one line with its number
        "data_url": lambda svg: f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}",
    }
    return environment


def cut(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Return `text`, cut after `limit` characters with the number of those that are left out."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def estimate(value: Any, decimals: int | None = None) -> str:
    """Return `0.41 ± 0.05`: mean and half of the 95 % interval."""
    if value is None:
        return "–"
    shown = formatting.decimals_for(value.low, value.high) if decimals is None else decimals
    mean = formatting.plain(value.mean, shown)
    return mean if value.low is None else f"{mean} ± {formatting.plain(value.high - value.mean, shown)}"
