"""The charts of a comparison as data, a line for each group of runs. Pure; `plots` draws them.

Gold, length and features share a scale, so the groups share a chart; proxy rewards do so only within a recipe.
"""

from collections.abc import Callable, Sequence
from typing import get_args

from reward_client.wire import FeatureInfo
from reward_evidence.comparison.comparison import Comparison
from reward_evidence.comparison.group_figures import GroupFigures, StepFigures
from reward_evidence.report.charts import GOLD_AXIS, KL_AXIS, PROXY_AXIS, STEP_AXIS, Line, Panel, Role, Series
from reward_evidence.report.driver_chart import Bar, BarPanel
from reward_evidence.statistics.assessment import factor_noun
from reward_evidence.statistics.pooled import PooledEstimate

_SERIES: tuple[Role, ...] = get_args(Series)
_MAX_LABEL_CHARS = 18
_MAX_BARS = 12

Measure = Callable[[StepFigures], PooledEstimate | None]
Sections = dict[str, Sequence[Panel | BarPanel]]


def comparison_panels(comparison: Comparison) -> Sections:
    """The panels of each section: `differences`, `rewards`, `length`, `drivers`, `features`."""
    groups = comparison.groups
    return {
        "differences": _differences(comparison),
        "rewards": [*_gold(groups), *_proxy(groups)],
        "length": _present(
            [
                _by_step("words", "Response length", "words per response", groups, lambda s: s.words),
                _by_step(
                    "truncated", "Truncated", "share of responses", groups, lambda s: s.truncated, is_share=True
                ),
                _by_step("kl", "Distance from the start", KL_AXIS, groups, lambda s: s.kl),
            ]
        ),
        "drivers": [
            panel for index, group in enumerate(groups, 1) for panel in _drivers(index, group, comparison)
        ],
        "features": _features(groups, {feature.name: feature for feature in comparison.features}),
    }


def _differences(comparison: Comparison) -> list[BarPanel]:
    if not comparison.differences:
        return []
    bars = [
        Bar(f"{_short(one.group)} − {_short(one.other)}", one.mean, _bounds(one.low, one.high))
        for one in comparison.differences[:_MAX_BARS]
    ]
    note = f"95 % intervals, {comparison.n_prompts} prompts"
    if (others := len(comparison.differences) - len(bars)) > 0:
        note += f"; {others} more below"
    return [BarPanel("differences", "Final gold, differences", "difference of mean gold reward", bars, note)]


def _gold(groups: Sequence[GroupFigures]) -> list[Panel]:
    panels = [
        _by_step("gold_by_step", "Gold reward by step", GOLD_AXIS, groups, lambda s: s.gold),
        _by_kl("gold_by_kl", "Gold reward by KL", GOLD_AXIS, groups, lambda s: s.gold),
    ]
    return _present(panels)


def _proxy(groups: Sequence[GroupFigures]) -> list[Panel]:
    """A chart by step and by KL for each recipe."""
    recipes: dict[tuple[str, str], list[int]] = {}
    for index, group in enumerate(groups):
        recipes.setdefault((group.recipe, group.recipe_hash), []).append(index)
    panels = []
    for number, ((recipe, _), indices) in enumerate(recipes.items(), 1):
        shown = [group if index in indices else None for index, group in enumerate(groups)]
        title = f"Proxy by step: {_short(recipe)}"
        panels.append(_by_step(f"proxy_by_step_{number}", title, PROXY_AXIS, shown, lambda s: s.proxy))
        panels.append(
            _by_kl(f"proxy_by_kl_{number}", f"Proxy by KL: {_short(recipe)}", PROXY_AXIS, shown, lambda s: s.proxy)
        )
    return _present(panels)


def _features(groups: Sequence[GroupFigures], known: dict[str, FeatureInfo]) -> list[Panel]:
    names = dict.fromkeys(name for group in groups for step in group.steps for name in step.features)
    panels = []
    for name in names:
        info = known.get(name) or FeatureInfo(name=name, label=name.replace("_", " ").capitalize())
        axis = info.description or info.label.lower()
        panels.append(
            _by_step(f"feature_{name}", info.label, axis, groups, lambda s, name=name: s.features.get(name))  # type: ignore[misc]
        )
    return _present(panels)


def _drivers(index: int, group: GroupFigures, comparison: Comparison) -> list[BarPanel]:
    """The parts of a group's proxy change by factor, and the change."""
    change = group.proxy_change
    parts = [factor for factor in group.factors if factor.part.mean]
    if change is None or not parts:
        return []
    bars = [
        Bar(
            factor_noun(factor.name, comparison.labels).capitalize(),
            factor.part.mean,
            _bounds(factor.part.low, factor.part.high),
        )
        for factor in parts[:_MAX_BARS]
    ]
    if rest := parts[_MAX_BARS:]:
        bars.append(Bar(f"{len(rest)} others", sum(factor.part.mean for factor in rest), None))
    bars.append(Bar("All together", change.mean, _bounds(change.low, change.high), is_total=True))
    note = f"95 % intervals, {_seeds(group)}"
    return [BarPanel(f"drivers_{index}", _short(group.label), "part of the proxy change", bars, note)]


def _by_step(
    name: str,
    title: str,
    y_label: str,
    groups: Sequence[GroupFigures | None],
    measure: Measure,
    *,
    is_share: bool = False,
) -> Panel:
    lines = []
    for index, group in enumerate(groups):
        found = [] if group is None else [(s.step, v) for s in group.steps if (v := measure(s)) is not None]
        if group is not None and found:
            values = [value for _, value in found]
            lines.append(_line(index, group, [step for step, _ in found], values))
    note = "mean over seeds and prompts; bands: 95 % intervals"
    return Panel(name, title, STEP_AXIS, y_label, lines, note=note, is_share=is_share)


def _by_kl(name: str, title: str, y_label: str, groups: Sequence[GroupFigures | None], measure: Measure) -> Panel:
    lines = []
    for index, group in enumerate(groups):
        found = [(s.kl, v) for s in (group.steps if group else []) if s.kl is not None and (v := measure(s))]
        if group is not None and found:
            kl, values = zip(*found, strict=True)
            lines.append(_line(index, group, [one.mean for one in kl], values, _intervals(kl)))
    return Panel(name, title, KL_AXIS, y_label, lines, note="a point for each checkpoint; bars: 95 % intervals")


def _line(
    index: int,
    group: GroupFigures,
    x: Sequence[float],
    values: Sequence[PooledEstimate],
    x_interval: list[tuple[float, float]] | None = None,
) -> Line:
    role = _SERIES[index % len(_SERIES)]
    means = [value.mean for value in values]
    return Line(_short(group.label), role, x, means, _intervals(values), x_interval)


def _intervals(values: Sequence[PooledEstimate]) -> list[tuple[float, float]] | None:
    found = [bounds for value in values if (bounds := _bounds(value.low, value.high))]
    return found if len(found) == len(values) else None


def _bounds(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _present(panels: Sequence[Panel]) -> list[Panel]:
    return [panel for panel in panels if panel.lines]


def _short(label: str) -> str:
    return label if len(label) <= _MAX_LABEL_CHARS else f"{label[: _MAX_LABEL_CHARS - 1]}…"


def _seeds(group: GroupFigures) -> str:
    return f"{group.n_seeds} seeds" if group.n_seeds > 1 else "one seed"
