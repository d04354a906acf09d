"""Draws panels with matplotlib, without a display: SVG for the report, PNG as files.

Colours are those of Okabe and Ito, distinguishable for colour-blind readers; lines also have different markers,
for black-and-white prints. Text in the SVG remains text, in the reader's font.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reward_client.writing import writing
from reward_evidence.report.charts import Line, Panel, Role
from reward_evidence.report.distribution_chart import HistogramPanel
from reward_evidence.report.driver_chart import BarPanel

_COLOURS: dict[Role, str] = {
    "proxy": "#0072B2",
    "gold": "#B85000",
    "open_ended": "#007A5A",
    "closed_ended": "#A8487F",
    "neutral": "#3A4652",
    "series_1": "#0072B2",
    "series_2": "#B85000",
    "series_3": "#007A5A",
    "series_4": "#A8487F",
    "series_5": "#8A6D00",
    "series_6": "#3A8FC4",
    "series_7": "#3A4652",
    "series_8": "#7A5230",
}
_MARKERS: dict[Role, str] = {
    **{"proxy": "o", "gold": "D", "open_ended": "^", "closed_ended": "s", "neutral": "o"},
    **{"series_1": "o", "series_2": "D", "series_3": "^", "series_4": "s"},
    **{"series_5": "v", "series_6": "P", "series_7": "X", "series_8": "p"},
}
_INK, _FAINT, _GRID = "#1F2933", "#5F6B76", "#E3E7EB"
_SIZE = (4.5, 3.0)
"""Inches. Small, so that the text is readable at the width of a phone."""
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"
_STYLE = {
    "figure.dpi": 72,  # positions are measured in points
    "font.size": 9.5,
    "axes.edgecolor": "#9AA5B1",
    "axes.linewidth": 0.8,
    "axes.labelcolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "svg.fonttype": "none",
    "svg.hashsalt": "glassbox",  # the same figure gives an identical file
}
_MAX_MARKERS = 60
"""Points of a line above which they have no markers."""
_LABEL_GAP = 0.075
"""Minimum distance of two labels, as a fraction of the axes."""
_LABEL_SHIFTS = ((9, 9), (-9, 9), (9, -9), (-9, -9))
"""Offsets in points from a data point to the centre of its label; the first is preferred."""
_LABEL_DISTANCE = 9
"""Minimum distance of a label from data points and other labels, in points."""

AnyPanel = Panel | BarPanel | HistogramPanel


@dataclass(frozen=True)
class Drawing:
    """A panel as SVG and PNG."""

    panel: AnyPanel
    svg: str
    """With a transparent background, because the page may be dark."""
    png: bytes


def render(panel: AnyPanel) -> Drawing:
    """Draw `panel` and return it in both formats."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = _figure(panel)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return Drawing(panel, svg.getvalue().replace("'DejaVu Sans'", _FONTS), png.getvalue())


def _figure(panel: AnyPanel) -> Figure:
    if isinstance(panel, BarPanel):
        return _draw_bars(panel)
    return _draw_histograms(panel) if isinstance(panel, HistogramPanel) else _draw(panel)


def write_pngs(folder: Path, sections: Mapping[str, Sequence[Drawing]]) -> None:
    """Replace the charts in `folder` by those of `sections`. Raises OutputError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        for drawing in (drawing for found in sections.values() for drawing in found):
            (folder / f"{drawing.panel.name}.png").write_bytes(drawing.png)


def _draw(panel: Panel) -> Figure:
    """Draw `panel` on a new figure."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _style_axes(axes, panel)
    for line in panel.lines:
        _draw_path(axes, line) if panel.point_labels or line.x_interval else _draw_line(axes, line)
    _set_limits(axes, panel)
    figure.draw_without_rendering()  # fixes the position of the axes, which labels depend on
    if panel.point_labels:
        _label_points(axes, panel.lines[0], panel.point_labels)
    elif len(panel.lines) > 1:
        _label_ends(axes, panel.lines)
        figure.draw_without_rendering()  # lays the figure out again with the labels
    figure.set_layout_engine("none")
    return figure


def _draw_bars(panel: BarPanel) -> Figure:
    """Draw `panel` on a new figure, as high as its bars need."""
    figure = Figure(figsize=(_SIZE[0], max(_SIZE[1], 1.2 + 0.27 * len(panel.bars))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _style_axes(axes, panel)
    places = range(len(panel.bars), 0, -1)
    for place, bar in zip(places, panel.bars, strict=True):
        colour = _COLOURS["proxy" if bar.is_total else "neutral" if bar.value >= 0 else "closed_ended"]
        axes.barh(place, bar.value, height=0.62, color=colour, alpha=0.6)
        if bar.interval:
            axes.plot(bar.interval, (place, place), color=_INK, linewidth=1.1, solid_capstyle="butt")
    axes.set_yticks(list(places), [bar.label for bar in panel.bars], color=_INK)
    axes.axvline(0, color=_FAINT, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _draw_histograms(panel: HistogramPanel) -> Figure:
    """Draw `panel` on a new figure: the first checkpoint as an outline, the last one filled."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _style_axes(axes, panel)
    first, last = panel.shares
    colour = _COLOURS[panel.role]
    axes.stairs(last, panel.edges, fill=True, color=colour, alpha=0.45, label=panel.labels[1])
    axes.stairs(first, panel.edges, color=_INK, linewidth=1.4, linestyle=(0, (4, 2)), label=panel.labels[0])
    axes.legend(frameon=False, fontsize=9, labelcolor=_FAINT)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.margins(y=0.12)
    axes.set_ylim(bottom=0)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _style_axes(axes: Axes, panel: AnyPanel) -> None:
    title = {"loc": "left", "color": _INK, "fontsize": 11, "fontweight": "bold"}
    axes.set_title(panel.title, pad=20 if panel.note else 8, **title)  # type: ignore[arg-type]
    if panel.note:
        axes.annotate(
            panel.note,
            (0, 1),
            (0, 6),
            xycoords="axes fraction",
            textcoords="offset points",
            color=_FAINT,
            fontsize=8.5,
        )
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel("" if isinstance(panel, BarPanel) else panel.y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x" if isinstance(panel, BarPanel) else "y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def _draw_line(axes: Axes, line: Line) -> None:
    colour = _COLOURS[line.role]
    if line.y_interval:
        low, high = zip(*line.y_interval, strict=True)
        axes.fill_between(line.x, low, high, color=colour, alpha=0.16, linewidth=0)
    marker = _MARKERS[line.role] if len(line.x) <= _MAX_MARKERS else None
    axes.plot(line.x, line.y, color=colour, marker=marker, markersize=4.5, linewidth=1.8)


def _draw_path(axes: Axes, line: Line) -> None:
    colour = _COLOURS[line.role]
    y_bars, x_bars = _error_bars(line.y, line.y_interval), _error_bars(line.x, line.x_interval)
    axes.errorbar(line.x, line.y, y_bars, x_bars, fmt="none", ecolor=colour, alpha=0.3, elinewidth=1.2)
    axes.plot(line.x, line.y, color=colour, marker=_MARKERS[line.role], markersize=5, linewidth=1.2)


def _error_bars(values: Sequence[float], bounds: Sequence[tuple[float, float]] | None) -> Any:
    """Return the distances from values to their bounds in matplotlib's form: (2, T)."""
    if bounds is None:
        return None
    pairs = list(zip(values, bounds, strict=True))
    return [[v - low for v, (low, _) in pairs], [high - v for v, (_, high) in pairs]]


def _set_limits(axes: Axes, panel: Panel) -> None:
    if "step" in panel.x_label:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.margins(x=0.1 if panel.point_labels else 0.06, y=0.12)
    if panel.is_share:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if panel.limit:
        value, name = panel.limit
        axes.axhline(value, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(name, (0, value), (4, -11), xycoords=("axes fraction", "data"), textcoords="offset points",
                      color=_FAINT, fontsize=8.5)  # fmt: skip
    if panel.from_zero:
        axes.set_ylim(bottom=0)


def _label_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Label each line at its right end, without overlaps."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [(float(to_axes.transform((line.x[-1], line.y[-1]))[1]), line) for line in lines]
    below = -math.inf
    for end, line in sorted(ends, key=lambda pair: pair[0]):
        height = below = max(end, below + _LABEL_GAP)
        axes.annotate(line.label, (1.0, height), (2, 0), xycoords="axes fraction", textcoords="offset points",
                      va="center", color=_COLOURS[line.role], fontsize=9, fontweight="bold")  # fmt: skip


def _label_points(axes: Axes, line: Line, labels: Sequence[str]) -> None:
    """Label the last and the first point, and those between with enough space, each on its emptiest side."""
    points = [axes.transData.transform(place) for place in zip(line.x, line.y, strict=True)]
    last = len(points) - 1
    path = [a + (b - a) * part for a, b in itertools.pairwise(points) for part in (0.25, 0.5, 0.75)]
    obstacles = list(points)
    for index in dict.fromkeys([last, 0, *range(1, last)]):
        shift = max(_LABEL_SHIFTS, key=lambda shift: _distance(points[index] + shift, [*obstacles, *path]))
        if _distance(points[index] + shift, obstacles) < _LABEL_DISTANCE:
            continue
        obstacles.append(points[index] + shift)
        weight = "bold" if index in (0, last) else "normal"
        axes.annotate(labels[index], (line.x[index], line.y[index]), shift, textcoords="offset points",
                      ha="center", va="center", color=_INK, fontsize=8.5, fontweight=weight)  # fmt: skip


def _distance(position: Any, obstacles: Sequence[Any]) -> float:
    """Return the distance from `position` to the nearest obstacle."""
    return min(math.dist(position, obstacle) for obstacle in obstacles)
