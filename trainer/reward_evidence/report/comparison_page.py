"""The page of a comparison, its JSON and its charts as PNG: `glassbox report --compare`, and the end of a study.

groups of runs ──compare──▶ comparison.json ──▶ comparison.html, plots/*.png
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from reward_evidence.comparison.comparison import FILE_NAME, Comparison, compare
from reward_evidence.comparison.findings import not_at_equal, p_value
from reward_evidence.comparison.measures import GroupValues
from reward_evidence.comparison.runs import EvaluatedRun
from reward_evidence.report import templating
from reward_evidence.report.comparison_charts import comparison_panels
from reward_evidence.report.comparison_examples import side_by_side
from reward_evidence.report.plots import Drawing, write_pngs
from reward_evidence.report.plots import render as draw_panel
from reward_evidence.report.settings_table import flat
from reward_runs.files import replace_text

PAGE_NAME = "comparison.html"
_TEMPLATE = "comparison.html.j2"


def write_comparison(
    groups: Mapping[str, Sequence[EvaluatedRun]], out: Path, baseline: str | None = None
) -> tuple[Path, Comparison]:
    """Compare `groups` and write page, JSON and charts into `out`; return the page's path and the figures.

    Raises EvaluationError when the runs cannot be compared; nothing is written then.
    """
    comparison, values = compare(groups, baseline)
    sections = {
        name: [draw_panel(panel) for panel in found] for name, found in comparison_panels(comparison).items()
    }
    write_pngs(out / "comparison_plots", sections)
    replace_text(out / FILE_NAME, comparison.model_dump_json(indent=2) + "\n")
    replace_text(out / PAGE_NAME, render(comparison, sections, values))
    return out / PAGE_NAME, comparison


def render(
    comparison: Comparison, sections: Mapping[str, Sequence[Drawing]], values: Sequence[GroupValues]
) -> str:
    """Return the page; all texts are escaped."""
    return templating.render(
        _TEMPLATE,
        comparison.labels,
        comparison=comparison,
        sections=sections,
        example_groups=side_by_side(values),
        p_value=p_value,
        not_at_equal=not_at_equal,
        settings={group.label: flat(group.settings) for group in comparison.groups if group.settings},
        evaluation_settings=flat(comparison.settings),
    )


def summary_lines(comparison: Comparison) -> list[str]:
    """The findings and notices, for a terminal."""
    findings = comparison.findings
    lines = [*findings.sentences, *findings.limitations, *comparison.notices]
    return [f"{findings.headline}.", *(f"- {line}" for line in lines)]
