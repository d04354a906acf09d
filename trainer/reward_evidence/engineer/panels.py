"""The charts of engineer.html as data."""

from __future__ import annotations

from collections.abc import Mapping

from reward_evidence.engineer.findings import Curve, Point
from reward_evidence.engineer.result import TypeResult
from reward_evidence.report.charts import Line, Panel, Role
from reward_evidence.report.driver_chart import Bar, BarPanel


def adds_panel(found: TypeResult, labels: Mapping[str, str]) -> BarPanel | None:
    """A bar for each feature of some fold: held-out accuracy that is lost without it."""
    bars = [
        Bar(
            labels.get(feature.name, feature.name),
            feature.adds.mean,
            _bounds(feature.adds.low, feature.adds.high),
        )
        for feature in found.features
        if feature.adds is not None
    ]
    if not bars:
        return None
    note = "held out; lines: 95 % intervals"
    return BarPanel("adds", "What each feature adds", "share of pairs lost without it", bars, note)


def curve_panels(curve: Curve, labels: Mapping[str, str]) -> list[Panel]:
    """The factor, and gold, by the feature."""
    label = labels.get(curve.feature, curve.feature)
    x, y = zip(*curve.factor, strict=True)
    factor = Line("factor", "proxy", x, y)
    panels = [
        Panel(f"factor_{curve.feature}", label, curve.feature, "factor of the recipe", [factor], from_zero=True)
    ]
    if curve.gold:
        line = _line("gold", "gold", curve.gold)
        panels.append(
            Panel(
                f"gold_{curve.feature}",
                f"{label} and gold",
                curve.feature,
                "gold within prompts (s. d.)",
                [line],
                note="means in bins; band: 95 % intervals",
            )
        )
    return panels


def calibration_panel(points: list[Point]) -> Panel:
    """Share of pairs in which gold agrees, by the chance that the fit expects."""
    ends = [0.5, 1.0]
    lines = [_line("held out", "proxy", points), Line("as expected", "neutral", ends, ends)]
    return Panel(
        "calibration",
        "Is a larger difference more certain?",
        "expected share of pairs",
        "share that gold ranks so",
        lines,
        note="held-out pairs; band: 95 % intervals",
    )


def _bounds(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _line(label: str, role: Role, points: list[Point]) -> Line:
    bounds = [(p.low, p.high) for p in points if p.low is not None and p.high is not None]
    band = bounds if len(bounds) == len(points) else None
    return Line(label, role, [p.x for p in points], [p.y for p in points], band)
