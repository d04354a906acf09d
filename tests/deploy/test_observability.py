"""Alerts and dashboard read metrics that exist; every alert is explained and has a promtool test."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import encoder, gold, service  # noqa: F401 (fixtures)
from tests.deploy.files import ROOT, load_json, load_yaml, metric_names

SAMPLES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
"""Samples that a metric without a value is expected to have."""
FOREIGN = {"up", "haproxy_backend_active_servers"}
"""Metrics of Prometheus itself and of HAProxy."""


@pytest.fixture
def service_metrics(service: TestClient) -> set[str]:  # noqa: F811
    """The names of all samples that `GET /metrics` can have. Not every histogram has a sum."""
    service.post("/score", json={"items": [{"prompt": "Why?", "response": "So."}], "gold": True, "run": "seed-7"})
    families = list(text_string_to_metric_families(service.get("/metrics").text))
    return {
        name
        for family in families
        if family.name.startswith("glassbox_")
        for name in ({sample.name for sample in family.samples} or {family.name + s for s in SAMPLES[family.type]})
    }


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in load_yaml("docker/prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    panels = load_json("docker/grafana/glassbox.json")["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_of(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in metric_names(expression)}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up", {"up"}),
        ('sum by (le) (rate(a_bucket{route=~"/r/.*|{x}"}[5m])) / on (job) b_total > 60', {"a_bucket", "b_total"}),
        ("a - (b offset 15m or vector(0)) unless c", {"a", "b", "c"}),
        ('sum(a{by="or"}) without (instance) == bool 1e3', {"a"}),
        ("max by (instance) (delta(process_restarts[15m])) > 0", {"process_restarts"}),
    ],
)
def test_the_metrics_of_an_expression_are_found(expression: str, expected: set[str]) -> None:
    assert metric_names(expression) == expected


def test_every_metric_of_an_alert_exists(service_metrics: set[str]) -> None:
    named = metrics_of([rule["expr"] for rule in alert_rules()])

    assert named - FOREIGN - service_metrics == set()


def test_every_metric_of_the_dashboard_exists(service_metrics: set[str]) -> None:
    named = metrics_of(dashboard_expressions())

    assert named - FOREIGN - service_metrics == set()


@pytest.mark.parametrize("topic", ["refused", "held", "restarts"])
def test_alerts_and_dashboard_show_refusals_holds_and_restarts(topic: str) -> None:
    assert any(topic in name for name in metrics_of([rule["expr"] for rule in alert_rules()]))
    assert any(topic in name for name in metrics_of(dashboard_expressions()))


def test_every_alert_is_explained_and_has_a_rule_test() -> None:
    tests = load_yaml("docker/prometheus/alerts_test.yml")["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    rules = alert_rules()
    names = {rule["alert"] for rule in rules}

    assert all(set(rule["annotations"]) == {"summary", "description", "runbook"} for rule in rules)
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_every_alert_has_a_section_in_the_runbook_that_it_names() -> None:
    page = (ROOT / "docs/operations/runbook.md").read_text(encoding="utf-8")
    sections = {part.splitlines()[0]: part for part in page.split("\n## ")[1:]}

    assert set(sections) == {rule["alert"] for rule in alert_rules()}
    for rule in alert_rules():
        assert rule["annotations"]["runbook"] == f"docs/operations/runbook.md#{rule['alert'].lower()}"
        for part in ("**Means**", "**Check**", "**Do**"):
            assert part in sections[rule["alert"]], rule["alert"]


@pytest.mark.parametrize("value", ["reward", "gold_reward", "!~"])
def test_the_dashboard_shows_reward_gold_and_features_by_run(value: str) -> None:
    assert any(
        "by (run" in one and "glassbox_run_sum_total" in one and value in one for one in dashboard_expressions()
    )


def test_no_query_takes_the_rate_of_a_sum_that_may_fall(service: TestClient) -> None:  # noqa: F811
    """Prometheus takes a counter that falls for a restart, so rewards below 0 would count as large ones."""
    service.post("/score", json={"items": [{"prompt": "Why?", "response": "So."}]})
    samples = {line.split("{")[0] for line in service.get("/metrics").text.splitlines()}

    assert "glassbox_reward_count" in samples
    assert "glassbox_reward_sum" not in samples


def test_the_dashboard_reads_the_data_source_that_is_provisioned() -> None:
    sources = load_yaml("docker/grafana/datasources.yml")["datasources"]
    panels = load_json("docker/grafana/glassbox.json")["panels"]

    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"] for source in sources}
