"""Rewards, features and gold scores by training run, as counters that a dashboard makes means of.

    glassbox_run_items_total      run, recipe, outcome        items: scored or error
    glassbox_run_values_total     run, recipe, value          values: of the reward, the gold reward, each feature
    glassbox_run_sum_total        run, recipe, value, sign    their sum: of the positive ones, and of the others
    glassbox_run_flags_total      run, recipe, flag           items with a flag
    glassbox_run_failures_total   run, recipe, cause          requests that failed as a whole

A mean is (sum of sign="positive" less sum of sign="negative") / values. There are two sums because a counter may
only grow: Prometheus takes a sum that falls, like that of gold scores below 0, for a restart.

A run is a caller's text, and every name is a set of series that Prometheus keeps. So at most `max_runs` pairs of
run and recipe have labels of their own; a pair without requests for an hour makes room for a new one, and pairs
that find no room count together. A failure before the recipe was known takes no room: it counts under the name of
its run if one of the run's pairs has labels of its own.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from reward_client.wire import ItemResult

NO_RUN, OTHER_RUNS = "(none)", "(other)"
"""Labels of requests that name no run, or whose names are kept out; and of runs without labels of their own."""
UNKNOWN_RECIPE = "(unknown)"
"""Label of a request that failed before its recipe was known."""

_MAX_NAME_CHARS = 100
_MAX_FLAGS = 40
"""Flags of a pair; those of plug-ins may be any text."""
_IDLE_S = 3600.0
"""Seconds after which a pair makes room for another: longer than a training step or an evaluation."""
_NUMBER = re.compile(r"_[0-9]+$")
"""In a flag: `best_reference_3`."""


@dataclass(slots=True)
class _Sum:
    n: int = 0
    positive: float = 0.0
    negative: float = 0.0

    def add(self, values: Sequence[float]) -> None:
        self.n += len(values)
        if min(values) >= 0:
            self.positive += sum(values)
        else:
            self.positive += sum(value for value in values if value > 0)
            self.negative -= sum(value for value in values if value < 0)


@dataclass(slots=True)
class _Pair:
    """What was counted of one run and recipe."""

    outcomes: Counter[str] = field(default_factory=Counter)
    values: dict[str, _Sum] = field(default_factory=dict)
    flags: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    used_s: float = 0.0

    def add_flags(self, found: Counter[str]) -> None:
        for flag, n in found.items():
            name = _NUMBER.sub("", flag)
            known = name in self.flags or (len(self.flags) < _MAX_FLAGS and _is_label(name))
            self.flags[name if known else OTHER_RUNS] += n


class RunMetrics(Collector):
    """Counts by run and recipe. Thread-safe.

    Args:
        max_runs: pairs of a run and a recipe that have labels of their own; 0 counts all under NO_RUN.
        clock: seconds.
    """

    def __init__(self, max_runs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_runs = max_runs
        self._clock = clock
        self._lock = threading.Lock()
        self._named: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        """The one that was used last is at the end."""
        self._unknown: dict[str, _Pair] = {}
        """Failures before the recipe was known, by run; only of runs in `_named`."""
        self._shared: dict[tuple[str, str], _Pair] = {}
        """Of NO_RUN and OTHER_RUNS, by recipe."""

    def scored(self, run: str | None, recipe: str, results: Sequence[ItemResult]) -> None:
        """A request of `run` was scored."""
        columns: dict[str, list[float]] = {"reward": [], "gold_reward": []}
        flags: Counter[str] = Counter()
        for result in results:
            if result.reward is None:
                continue
            columns["reward"].append(result.reward)
            if result.gold_reward is not None:
                columns["gold_reward"].append(result.gold_reward)
            for name, value in result.features.items():
                if value is not None:
                    columns.setdefault(name, []).append(value)
            flags.update(result.flags)
        n_scored = len(columns["reward"])
        with self._lock:
            pair = self._pair(run, recipe)
            pair.outcomes["scored"] += n_scored
            pair.outcomes["error"] += len(results) - n_scored
            for name, values in columns.items():
                if values:
                    pair.values.setdefault(name, _Sum()).add(values)
            pair.add_flags(flags)

    def failed(self, run: str | None, recipe: str, cause: str) -> None:
        """A request of `run` failed as a whole."""
        with self._lock:
            self._pair(run, recipe).failures[cause] += 1

    def _pair(self, run: str | None, recipe: str) -> _Pair:
        if run and _is_label(run) and run not in (NO_RUN, OTHER_RUNS):
            key = run, recipe
            if recipe == UNKNOWN_RECIPE:
                if any(run == named for named, _ in self._named):
                    return self._unknown.setdefault(run, _Pair())
            elif key in self._named or self._has_room():
                pair = self._named.setdefault(key, _Pair())
                self._named.move_to_end(key)
                pair.used_s = self._clock()
                return pair
        return self._shared.setdefault((OTHER_RUNS if run and self._max_runs else NO_RUN, recipe), _Pair())

    def _has_room(self) -> bool:
        if len(self._named) < self._max_runs:
            return True
        oldest = next(iter(self._named), None)
        if oldest is None or self._clock() - self._named[oldest].used_s < _IDLE_S:
            return False
        del self._named[oldest]
        self._unknown.pop(oldest[0], None)
        return True

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The families of all pairs."""
        items = _family("items", "Items by training run; outcome is scored or error.", "outcome")
        values = _family("values", "Values by training run: of reward, gold_reward and each feature.", "value")
        sums = _family("sum", "Sums of these values, of the positive and of the negative ones.", "value", "sign")
        flags = _family("flags", "Items with a flag by training run.", "flag")
        failures = _family("failures", "Requests of a training run that failed as a whole.", "cause")
        with self._lock:
            for labels, pair in self._pairs():
                _add(items, labels, pair.outcomes)
                _add(values, labels, {name: total.n for name, total in pair.values.items()})
                for name, total in pair.values.items():
                    _add(sums, [*labels, name], {"positive": total.positive, "negative": total.negative})
                _add(flags, labels, pair.flags)
                _add(failures, labels, pair.failures)
        return items, values, sums, flags, failures

    def _pairs(self) -> Iterator[tuple[list[str], _Pair]]:
        for key, pair in (*self._shared.items(), *self._named.items()):
            yield list(key), pair
        for run, pair in self._unknown.items():
            yield [run, UNKNOWN_RECIPE], pair


def _family(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"glassbox_run_{name}", text, labels=["run", "recipe", *labels])


def _add(family: CounterMetricFamily, labels: list[str], values: dict[str, int] | dict[str, float]) -> None:
    for label, value in values.items():
        family.add_metric([*labels, label], value)


def _is_label(name: str) -> bool:
    """Whether a name can be a label. Quotes and backslashes can: they are escaped."""
    return 0 < len(name) <= _MAX_NAME_CHARS and name.isprintable()
