"""`GET /metrics` attributes rewards and failures to the run that a request names."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from reward_service.app import create_app
from reward_service.models.protocols import Tokens
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LengthGold, LetterEncoder

ITEM = {"prompt": "abc", "response": "abc"}
ROLLOUT = {"query": ["abcabc"], "prompts": ["abc"]}


def counted(service: TestClient, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(service.get("/metrics").text)
        for sample in family.samples
        if sample.name == f"glassbox_run_{name}_total" and labels.items() <= sample.labels.items()
    )


def test_the_metrics_have_the_mean_reward_gold_and_features_of_a_run(service: TestClient) -> None:
    body = {"items": [ITEM, {"prompt": "abc", "response": "abcd ef"}], "gold": True, "run": "seed-7"}
    reply = service.post("/score", json=body).json()

    for value, numbers in {
        "reward": reply["rewards"],
        "gold_reward": [one["gold_reward"] for one in reply["results"]],
        "query_relevance": [one["features"]["query_relevance"] for one in reply["results"]],
    }.items():
        labels = {"run": "seed-7", "recipe": "rer", "value": value}
        total = counted(service, "sum", **labels, sign="positive") - counted(
            service, "sum", **labels, sign="negative"
        )
        assert total == pytest.approx(sum(numbers))
        assert counted(service, "values", **labels) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/score", {"items": [ITEM], "run": "seed-7"}),
        ("/r/seed-7/get_reward", ROLLOUT),
        ("/r/seed-7/slime", {"prompt": "abc", "response": "abc", "label": None}),
    ],
)
def test_every_protocol_with_a_run_attributes_its_items(
    service: TestClient, path: str, body: dict[str, Any]
) -> None:
    assert service.post(path, json=body).status_code == 200

    assert counted(service, "items", run="seed-7", outcome="scored") == 1


@pytest.mark.parametrize(
    ("path", "body", "recipe", "cause"),
    [
        ("/score", {"items": [{**ITEM, "query_type": "closed_ended"}], "run": "seed-7"}, "rer", "invalid"),
        ("/r/seed-7/get_reward", {"query": 7}, "(unknown)", "invalid"),
        ("/r/seed-7/get_reward?recipe=nothing", ROLLOUT, "(unknown)", "invalid"),
        ("/r/seed-7/get_reward?dataset=nothing", ROLLOUT, "(unknown)", "invalid"),
        ("/r/seed-7/get_reward", {"query": ["a"] * 101, "prompts": ["a"] * 101}, "(unknown)", "too_large"),
    ],
)
def test_a_failed_request_is_a_failure_of_its_run(
    service: TestClient, path: str, body: dict[str, Any], recipe: str, cause: str
) -> None:
    assert service.post("/score", json={"items": [ITEM], "run": "seed-7"}).status_code == 200
    assert service.post(path, json=body).status_code in (413, 422)

    assert counted(service, "failures", run="seed-7", recipe=recipe, cause=cause) == 1


def test_an_unexpected_exception_is_a_failure_of_its_run_and_of_its_route() -> None:
    class Defective(LetterEncoder):
        def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
            if any("DEFECT" in text for text in texts):
                raise RuntimeError("a defect")
            return super().tokenize(texts)

    app = create_app(
        Settings(default_recipe="rer"), encoder_loader=lambda _: Defective(), gold_loader=lambda _: LengthGold()
    )
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as service:
        wait_until_loaded(service)
        body = {"items": [{**ITEM, "response": "DEFECT"}], "run": "a"}

        assert service.post("/score", json=body).status_code == 500
        assert counted(service, "failures", run="a", recipe="rer", cause="failed") == 1
        assert 'glassbox_refused_total{cause="failed",route="/score"} 1.0' in service.get("/metrics").text


def test_a_request_that_passes_its_deadline_is_a_failure_of_its_run() -> None:
    gate = threading.Event()
    encoder = LetterEncoder(gate=gate)
    app = create_app(
        Settings(default_recipe="rer"), encoder_loader=lambda _: encoder, gold_loader=lambda _: LengthGold()
    )
    with TestClient(app, "http://localhost") as service:
        gate.set()
        wait_until_loaded(service)
        gate.clear()
        late = service.post(
            "/score",
            json={"items": [{**ITEM, "response": "x y z"}], "run": "a"},
            headers={"Glassbox-Deadline-S": "0.2"},
        )
        gate.set()

        assert late.status_code == 504
        assert counted(service, "failures", run="a", recipe="rer", cause="deadline") == 1
        assert counted(service, "failures", cause="dropped") == 0


def test_the_setting_bounds_the_runs() -> None:
    app = create_app(
        Settings(default_recipe="rer", metrics_runs=1),
        encoder_loader=lambda _: LetterEncoder(),
        gold_loader=lambda _: LengthGold(),
    )
    with TestClient(app, "http://localhost") as service:
        wait_until_loaded(service)
        for run in ("first", 'hostile"} 1\nfake 2', "third"):
            assert service.post("/score", json={"items": [ITEM], "run": run}).status_code == 200

        assert counted(service, "items", run="first") == 1
        assert counted(service, "items", run="(other)") == 2
        assert "hostile" not in service.get("/metrics").text
