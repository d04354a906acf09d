"""The charts of the report as data, one panel per question. Pure; `plots` draws them.

A panel has one y axis: proxy and gold have different scales, so they have separate panels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from reward_client.wire import FeatureInfo
from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.report.driver_chart import BarPanel, driver_panels
from reward_evidence.statistics.monotonicity import Change, Estimate
from reward_evidence.statistics.summary import CheckpointFigures, GroupFigures

Series = Literal["series_1", "series_2", "series_3", "series_4", "series_5", "series_6", "series_7", "series_8"]
"""One of several groups of runs."""
Role = Literal["proxy", "gold", "open_ended", "closed_ended", "neutral"] | Series
"""Kind of a line, which determines its colour and marker."""

PROXY_AXIS = "proxy reward"
GOLD_AXIS = "gold reward (separate scale)"
STEP_AXIS = "optimizer step"
KL_AXIS = "KL from the initial policy (nats per response)"

_TRAINING = {
    "reward": ("Proxy reward of the rollouts", "proxy reward", "proxy"),
    "gold_reward": ("Gold reward of the rollouts", GOLD_AXIS, "gold"),
    "response_length": ("Length of the rollouts", "tokens per response", "neutral"),
    "truncated": ("Rollouts truncated at the token limit", "share of responses", "neutral"),
    "kl": ("KL penalty while training", "nats, as OpenRLHF logs it", "neutral"),
}
"""Metrics in metrics.jsonl: title, unit, role."""


@dataclass(frozen=True)
class Line:
    """Values in the order of the checkpoints."""

    label: str
    role: Role
    x: Sequence[float]
    y: Sequence[float]
    y_interval: Sequence[tuple[float, float]] | None = None
    x_interval: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True)
class Panel:
    """One chart."""

    name: str
    """File name of the PNG, without suffix."""
    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    note: str = ""
    """Explanation of bands or bars, below the title."""
    point_labels: Sequence[str] = field(default_factory=list)
    """Labels of the points of a single line, which is then a path with bars instead of a line with a band."""
    limit: tuple[float, str] | None = None
    """Position and label of a horizontal line."""
    from_zero: bool = False
    """Whether the y axis starts at 0."""
    is_share: bool = False
    """Whether the y axis runs from 0 to 1."""

    @property
    def alt(self) -> str:
        """Alternative text."""
        ends = "; ".join(f"{line.label}: {line.y[0]:.3g} first, {line.y[-1]:.3g} last" for line in self.lines)
        return f"{self.title}. {self.y_label} against {self.x_label}. {ends}."


def panels(evaluation: Evaluation, metrics: Sequence[dict[str, Any]]) -> dict[str, Sequence[Panel | BarPanel]]:
    """Return the panels of each section: `drivers`, `rewards`, `query_types`, `features`, `length`, `training`."""
    checkpoints = evaluation.checkpoints
    return {
        "drivers": driver_panels(evaluation.trend, {f.name: f.label for f in evaluation.features}),
        "rewards": [*_changes(evaluation), *_rewards(checkpoints)],
        "golds": _golds(evaluation),
        "query_types": _query_types(checkpoints),
        "features": _features(checkpoints, evaluation.features),
        "length": _length(checkpoints, evaluation.settings["max_new_tokens"]),
        "training": _training(metrics),
    }


def _changes(evaluation: Evaluation) -> list[Panel]:
    """Return panels of the change since the first checkpoint."""
    gold, proxy = evaluation.trend.gold_since_first, evaluation.trend.proxy_since_first
    found = []
    if proxy:
        found.append(_since_first("proxy_change", "Proxy", PROXY_AXIS, "proxy", evaluation, proxy))
    if gold:
        found.append(_since_first("gold_change", "Gold", GOLD_AXIS, "gold", evaluation, gold))
    return found


def _since_first(
    name: str, subject: str, axis: str, role: Role, evaluation: Evaluation, changes: Sequence[Change]
) -> Panel:
    steps = [checkpoint.step for checkpoint in evaluation.checkpoints]
    bounds = _intervals(changes)
    line = Line(
        "change", role, steps, [0.0, *(c.mean for c in changes)], [(0.0, 0.0), *bounds] if bounds else None
    )
    return Panel(
        name,
        f"{subject}: change since step {steps[0]}",
        STEP_AXIS,
        f"change of {axis}",
        [line],
        note=f"paired over {evaluation.trend.n_prompts} prompts; band: 95 % intervals",
        limit=(0.0, "no change"),
    )


def _rewards(checkpoints: Sequence[CheckpointFigures]) -> list[Panel]:
    proxy = [checkpoint.proxy_reward for checkpoint in checkpoints]
    gold = [checkpoint.gold_reward for checkpoint in checkpoints if checkpoint.gold_reward]
    kl = [checkpoint.kl for checkpoint in checkpoints if checkpoint.kl]
    found = [_by_step("proxy_by_step", "Proxy reward by step", PROXY_AXIS, "proxy", checkpoints, proxy)]
    if gold:
        found.append(_by_step("gold_by_step", "Gold reward by step", GOLD_AXIS, "gold", checkpoints, gold))
    if kl:
        found.append(_path("proxy_by_kl", "Proxy reward by KL", (KL_AXIS, kl), (PROXY_AXIS, proxy), checkpoints))
    if gold and kl:
        found.append(_path("gold_by_kl", "Gold reward by KL", (KL_AXIS, kl), (GOLD_AXIS, gold), checkpoints))
    if gold:
        title = "Does gold rise with the proxy?"
        found.append(_path("gold_by_proxy", title, (PROXY_AXIS, proxy), (GOLD_AXIS, gold), checkpoints))
    return found


def _golds(evaluation: Evaluation) -> list[Panel]:
    """Each gold model beside the primary one, on an axis of its own."""
    others = evaluation.golds.models[1:] if evaluation.golds else []
    return [
        _by_step(f"gold_{n}_by_step", model.short_name, GOLD_AXIS, "gold", evaluation.checkpoints, model.means)
        for n, model in enumerate(others, 2)
    ]


def _query_types(checkpoints: Sequence[CheckpointFigures]) -> list[Panel]:
    found = [
        _by_type("proxy_by_type", "Proxy reward by query type", PROXY_AXIS, checkpoints, lambda g: g.proxy_reward),
        _by_type("gold_by_type", "Gold reward by query type", GOLD_AXIS, checkpoints, lambda g: g.gold_reward),
    ]
    return [panel for panel in found if panel.lines]


def _features(checkpoints: Sequence[CheckpointFigures], known: Sequence[FeatureInfo]) -> list[Panel]:
    """One panel for each measured feature, labelled as the service labels it."""
    names = [name for name in checkpoints[0].features if all(name in c.features for c in checkpoints)]
    infos = {feature.name: feature for feature in known}
    panels = []
    for name in names:
        info = infos.get(name) or FeatureInfo(name=name, label=name.replace("_", " ").capitalize())
        values = [checkpoint.features[name] for checkpoint in checkpoints]
        axis = info.description or info.label.lower()
        panels.append(_by_step(f"feature_{name}", info.label, axis, "neutral", checkpoints, values))
    return panels


def _length(checkpoints: Sequence[CheckpointFigures], max_new_tokens: int | None) -> list[Panel]:
    tokens = [checkpoint.n_tokens for checkpoint in checkpoints if checkpoint.n_tokens]
    shares = [checkpoint.truncated for checkpoint in checkpoints if checkpoint.truncated is not None]
    if len(tokens) < len(checkpoints) or len(shares) < len(checkpoints) or max_new_tokens is None:
        words = [checkpoint.n_words for checkpoint in checkpoints]
        length = _by_step("length", "Response length", "words per response", "neutral", checkpoints, words)
        return [replace(length, from_zero=True)]
    length = _by_step("length", "Response length", "tokens per response", "neutral", checkpoints, tokens)
    truncated = Line("truncated", "neutral", [checkpoint.step for checkpoint in checkpoints], shares)
    title = "Responses truncated at the token limit"
    return [
        replace(length, limit=(max_new_tokens, f"limit: {max_new_tokens}"), from_zero=True),
        Panel("truncated", title, STEP_AXIS, "share of responses", [truncated], is_share=True),
    ]


def _training(metrics: Sequence[dict[str, Any]]) -> list[Panel]:
    found = []
    for key, (title, y_label, role) in _TRAINING.items():
        points = [(row["step"], row[key]) for row in metrics if isinstance(row.get(key), int | float)]
        if points:
            x, y = zip(*points, strict=True)
            line = Line("a step's rollouts", role, x, y)  # type: ignore[arg-type]
            panel = Panel(f"training_{key}", title, STEP_AXIS, y_label, [line], is_share=key == "truncated")
            found.append(panel)
    return found


def _by_step(
    name: str,
    title: str,
    y_label: str,
    role: Role,
    checkpoints: Sequence[CheckpointFigures],
    values: Sequence[Estimate],
) -> Panel:
    line = _line("mean", role, [checkpoint.step for checkpoint in checkpoints], values)
    note = f"mean over {values[0].n} prompts; band: 95 % interval" if line.y_interval else ""
    return Panel(name, title, STEP_AXIS, y_label, [line], note=note)


def _by_type(
    name: str,
    title: str,
    y_label: str,
    checkpoints: Sequence[CheckpointFigures],
    measure: Callable[[GroupFigures], Estimate | None],
) -> Panel:
    steps = [checkpoint.step for checkpoint in checkpoints]
    lines = []
    for query_type in checkpoints[0].query_types:
        values = [measure(checkpoint.query_types[query_type]) for checkpoint in checkpoints]
        present = [value for value in values if value]
        if present:
            label = f"{query_type.value.replace('_', '-')} ({present[0].n})"
            lines.append(_line(label, query_type.value, steps, present))
    return Panel(name, title, STEP_AXIS, y_label, lines, note="mean over prompts; bands: 95 % intervals")


def _path(
    name: str,
    title: str,
    x: tuple[str, Sequence[Estimate]],
    y: tuple[str, Sequence[Estimate]],
    checkpoints: Sequence[CheckpointFigures],
) -> Panel:
    role: Role = "gold" if y[0] == GOLD_AXIS else "proxy"
    line = Line("mean", role, [v.mean for v in x[1]], [v.mean for v in y[1]], _intervals(y[1]), _intervals(x[1]))
    steps = [str(checkpoint.step) for checkpoint in checkpoints]
    return Panel(name, title, x[0], y[0], [line], note="numbers: steps; bars: 95 % intervals", point_labels=steps)


def _line(label: str, role: Role, x: Sequence[float], values: Sequence[Estimate]) -> Line:
    return Line(label, role, x, [value.mean for value in values], _intervals(values))


def _intervals(values: Sequence[Estimate | Change]) -> list[tuple[float, float]] | None:
    found = [(value.low, value.high) for value in values if value.low is not None and value.high is not None]
    return found if len(found) == len(values) else None
