"""The charts of the page, as SVG that takes its colours from the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from reward_client.diff.report import Cell, FeatureShare

_SIDE = 300
_MARGIN = 44
_MAX_RADIUS = 13.0
_BAR, _LABEL, _WIDTH = 24, 190, 560


def places_chart(cells: Sequence[Cell]) -> str:
    """Places of the responses under A and B; the area of a circle is the number of responses."""
    return "".join(_places(cells))


def _places(cells: Sequence[Cell]) -> Iterator[str]:
    most = max((cell.n for cell in cells), default=1)
    total = sum(cell.n for cell in cells)
    size = _SIDE + 2 * _MARGIN
    label = f"Places of {total} responses under A and under B; on the diagonal they are equal"
    yield f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="{label}" class="chart square">'
    low, high = _MARGIN, _MARGIN + _SIDE
    yield f'<rect x="{low}" y="{low}" width="{_SIDE}" height="{_SIDE}" class="frame"/>'
    yield f'<line x1="{low}" y1="{high}" x2="{high}" y2="{low}" class="diagonal"/>'
    for cell in cells:
        x, y = high - cell.a * _SIDE, low + cell.b * _SIDE
        radius = max(1.5, _MAX_RADIUS * math.sqrt(cell.n / most))
        title = f"<title>{cell.n} responses</title>"
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="dot">{title}</circle>'
    yield f'<text x="{low}" y="{high + 18}">worst</text>'
    yield f'<text x="{high}" y="{high + 18}" text-anchor="end">best</text>'
    yield f'<text x="{size / 2}" y="{high + 34}" text-anchor="middle">place under A</text>'
    yield f'<text x="{low - 6}" y="{low + 10}" text-anchor="end">best</text>'
    yield f'<text x="{low - 6}" y="{high}" text-anchor="end">worst</text>'
    yield f'<text transform="translate(12 {size / 2}) rotate(-90)" text-anchor="middle">place under B</text>'
    yield "</svg>"


def features_chart(features: Sequence[FeatureShare]) -> str:
    """Shares of the features as bars, with their intervals; a negative share is a bar to the left."""
    return "".join(_features(features))


def _features(features: Sequence[FeatureShare]) -> Iterator[str]:
    ends = [0.0, *(end for one in features for end in (one.share.value, one.share.low, one.share.high) if end)]
    low, high = min(ends), max(ends)
    scale = (_WIDTH - _LABEL - 60) / ((high - low) or 1.0)
    height = _BAR * len(features) + 8

    def position(share: float) -> float:
        return _LABEL + (share - low) * scale

    yield f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Share of the movements by feature" '
    yield 'class="chart">'
    for row, one in enumerate(features):
        value, middle = one.share.value or 0.0, row * _BAR + _BAR / 2
        left = position(min(value, 0.0))
        yield f'<text x="{_LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(_short(one.name))}</text>'
        size = f'width="{abs(value) * scale:.1f}" height="14"'
        yield f'<rect x="{left:.1f}" y="{middle - 7}" {size} class="bar-{_sign(value)}"/>'
        if one.share.low is not None and one.share.high is not None:
            yield (
                f'<line x1="{position(one.share.low):.1f}" x2="{position(one.share.high):.1f}" y1="{middle}" '
                f'y2="{middle}" class="whisker"/>'
            )
        end = position(max(value, one.share.high or 0.0, 0.0)) + 6
        yield f'<text x="{end:.1f}" y="{middle + 4}">{100 * value:.0f}%</text>'
    yield f'<line x1="{position(0.0):.1f}" x2="{position(0.0):.1f}" y1="0" y2="{height}" class="axis"/>'
    yield "</svg>"


def _sign(value: float) -> str:
    return "plus" if value >= 0 else "minus"


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
