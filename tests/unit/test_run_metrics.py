"""Metrics by training run: means of rewards, gold scores and features, for a bounded number of runs."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from reward_client.wire import ItemError, ItemResult
from reward_service.telemetry.run_metrics import NO_RUN, OTHER_RUNS, UNKNOWN_RECIPE, RunMetrics


class Clock:
    """Time that passes when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def result(reward: float, gold: float | None = None, flags: tuple[str, ...] = (), **features: float) -> ItemResult:
    return ItemResult(reward=reward, gold_reward=gold, flags=list(flags), features=dict(features))


def samples(metrics: RunMetrics, name: str) -> dict[tuple[str, ...], float]:
    """What Prometheus reads: the values of a family, by run and the labels that are its own."""
    registry = CollectorRegistry()
    registry.register(metrics)
    own = ("outcome", "value", "sign", "flag", "cause")
    return {
        (sample.labels["run"], *(sample.labels[label] for label in own if label in sample.labels)): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name == f"glassbox_run_{name}_total"
    }


def runs(metrics: RunMetrics) -> set[str]:
    return {labels[0] for labels in samples(metrics, "items")}


def test_the_mean_of_each_value_can_be_computed() -> None:
    metrics = RunMetrics(10)
    metrics.scored("a", "rer", [result(1.0, gold=-2.0, length=4.0), result(0.5, gold=1.0, length=2.0)])
    metrics.scored("a", "rer", [result(0.0, gold=-5.0)])

    assert samples(metrics, "values") == {("a", "reward"): 3, ("a", "gold_reward"): 3, ("a", "length"): 2}
    assert samples(metrics, "sum") == {
        ("a", "reward", "positive"): 1.5,
        ("a", "reward", "negative"): 0,
        ("a", "gold_reward", "positive"): 1,
        ("a", "gold_reward", "negative"): 7,
        ("a", "length", "positive"): 6,
        ("a", "length", "negative"): 0,
    }


def test_sums_never_fall() -> None:
    metrics, before = RunMetrics(10), 0.0
    for gold in (3.0, -4.0, 2.0, -1.0):
        metrics.scored("a", "rer", [result(0.1, gold=gold)])
        sums = samples(metrics, "sum")

        assert min(sums.values()) >= 0
        assert sum(sums.values()) > before
        before = sum(sums.values())


def test_errors_and_flags_are_counted() -> None:
    metrics = RunMetrics(10)
    bad = ItemResult(reward=None, error=ItemError(field="reference", message="is needed"))
    metrics.scored("a", "rer", [bad, result(1.0, flags=("truncated",)), result(1.0, flags=("best_reference_3",))])
    metrics.failed("a", "rer", "invalid")

    assert samples(metrics, "items") == {("a", "scored"): 2, ("a", "error"): 1}
    assert samples(metrics, "flags") == {("a", "truncated"): 1, ("a", "best_reference"): 1}
    assert samples(metrics, "failures") == {("a", "invalid"): 1}


def test_two_recipes_of_a_run_are_not_mixed() -> None:
    metrics = RunMetrics(10)
    metrics.scored("a", "rer", [result(1.0)])
    metrics.scored("a", "glassbox", [result(0.0)])
    registry = CollectorRegistry()
    registry.register(metrics)

    labels = {"run": "a", "value": "reward", "sign": "positive"}
    assert registry.get_sample_value("glassbox_run_sum_total", labels | {"recipe": "rer"}) == 1
    assert registry.get_sample_value("glassbox_run_sum_total", labels | {"recipe": "glassbox"}) == 0


def test_further_runs_count_together() -> None:
    metrics = RunMetrics(2, Clock())
    for run in ("a", "b", "c", "d", "a"):
        metrics.scored(run, "rer", [result(1.0)])

    items = {labels[0]: n for labels, n in samples(metrics, "items").items() if labels[1] == "scored"}
    assert items == {"a": 2, "b": 1, OTHER_RUNS: 2}


def test_a_run_that_ended_makes_room() -> None:
    clock = Clock()
    metrics = RunMetrics(2, clock)
    metrics.scored("ended", "rer", [result(1.0)])
    clock.now_s = 3000
    metrics.scored("active", "rer", [result(1.0)])
    clock.now_s = 3700
    metrics.scored("new", "rer", [result(1.0)])
    metrics.scored("newer", "rer", [result(1.0)])

    assert runs(metrics) == {"active", "new", OTHER_RUNS}


def test_a_caller_that_invents_runs_adds_few_series() -> None:
    metrics = RunMetrics(5, Clock())
    for number in range(10_000):
        metrics.scored(f"run {number}", "rer", [result(1.0, flags=(f"flag{number}x",))])
        metrics.failed(f"run {number}", "rer", "invalid")

    assert len(runs(metrics)) == 6
    assert len(samples(metrics, "flags")) < 100
    assert len(samples(metrics, "failures")) == 6


@pytest.mark.parametrize("run", ["x" * 101, "a\nb", "a\x00b", "\ud800", "\u202eabc", OTHER_RUNS])
def test_a_name_that_cannot_be_a_label_is_counted_with_others(run: str) -> None:
    metrics = RunMetrics(5)
    metrics.scored(run, "rer", [result(1.0)])

    assert runs(metrics) == {OTHER_RUNS}


@pytest.mark.parametrize("run", ['a"b', "a\\b", 'x"} 1 # {', "Läufe/7", "跑步", "  "])
def test_any_name_that_can_be_printed_is_shown_as_it_was_sent(run: str) -> None:
    metrics = RunMetrics(5)
    metrics.scored(run, "rer", [result(1.0)])

    assert runs(metrics) == {run}


@pytest.mark.parametrize("run", [None, ""])
def test_requests_without_a_run_count_together(run: str | None) -> None:
    metrics = RunMetrics(5)
    metrics.scored(run, "rer", [result(1.0)])

    assert runs(metrics) == {NO_RUN}


def test_names_can_be_kept_out_of_the_metrics() -> None:
    metrics = RunMetrics(0)
    metrics.scored("secret", "rer", [result(1.0)])
    metrics.failed("secret", UNKNOWN_RECIPE, "invalid")

    assert runs(metrics) == {NO_RUN}
    assert samples(metrics, "failures") == {(NO_RUN, "invalid"): 1}


def test_failures_before_the_recipe_was_known_take_no_room_of_a_run() -> None:
    clock = Clock()
    metrics = RunMetrics(2, clock)
    metrics.failed("early", UNKNOWN_RECIPE, "invalid")
    for run in ("a", "b"):
        metrics.scored(run, "rer", [result(1.0)])
        metrics.failed(run, UNKNOWN_RECIPE, "invalid")

    assert runs(metrics) == {"a", "b"}
    assert samples(metrics, "failures") == {(run, "invalid"): 1 for run in ("a", "b", OTHER_RUNS)}

    clock.now_s = 3700
    metrics.scored("new", "rer", [result(1.0)])

    assert samples(metrics, "failures") == {(run, "invalid"): 1 for run in ("b", OTHER_RUNS)}
