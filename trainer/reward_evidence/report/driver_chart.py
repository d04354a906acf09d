"""The chart of what drove the proxy reward, as data: a bar for each factor. Pure; `plots` draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reward_evidence.report.formatting import signed
from reward_evidence.statistics.assessment import factor_noun
from reward_evidence.statistics.summary import Trend

_MAX_BARS = 10


@dataclass(frozen=True)
class Bar:
    """One factor, or the sum of all."""

    label: str
    value: float
    interval: tuple[float, float] | None
    is_total: bool = False


@dataclass(frozen=True)
class BarPanel:
    """One chart of horizontal bars, from top to bottom."""

    name: str
    """File name of the PNG, without suffix."""
    title: str
    x_label: str
    bars: Sequence[Bar]
    note: str

    @property
    def alt(self) -> str:
        """Alternative text."""
        bars = "; ".join(f"{bar.label}: {signed(bar.value, 3)}" for bar in self.bars)
        return f"{self.title}. {self.x_label}. {bars}."


def driver_panels(trend: Trend, labels: Mapping[str, str]) -> list[BarPanel]:
    """The parts of the proxy change by factor, and the change; none without a second checkpoint."""
    change = trend.proxy_change
    if trend.drivers is None or change is None:
        return []
    parts = [part for part in trend.drivers.parts if part.part]
    bars = [
        Bar(factor_noun(part.name, labels).capitalize(), part.part, _bounds(part.low, part.high))
        for part in parts[:_MAX_BARS]
    ]
    if rest := parts[_MAX_BARS:]:
        bars.append(Bar(f"{len(rest)} others", sum(part.part for part in rest), None))
    bars.append(Bar("All together", change.mean, _bounds(change.low, change.high), is_total=True))
    note = f"paired over {change.n} prompts; lines: 95 % intervals"
    return [
        BarPanel("drivers", "What drove the proxy reward", "part of the change of the proxy reward", bars, note)
    ]


def _bounds(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)
