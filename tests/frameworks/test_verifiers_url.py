"""verifiers with the URL of the service, which is a resources server of NeMo-Gym."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.process import ServiceProcess
from tests.frameworks.vf_eval import ITEMS, QUESTIONS, ROWS, Run, errors, rewards


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_url_has_the_reward_of_the_service_and_logs_features(run: Run, keyed_service: ServiceProcess) -> None:
    direct = keyed_service.score(ITEMS)

    traces = run.by_url(ROWS, keyed_service.url, str(keyed_service.api_key))

    assert rewards(traces) == pytest.approx(direct["rewards"], rel=1e-6)
    for trace, result in zip(traces, direct["results"], strict=True):
        for name, value in result["features"].items():
            assert trace["metrics"].get(f"glassbox/{name}") == value
        parts = [value for name, value in trace["metrics"].items() if name.startswith("glassbox/part/")]
        assert sum(parts) == pytest.approx(result["reward"], rel=1e-6)


def test_a_url_gives_no_reward_when_the_service_is_away(run: Run, service: ServiceProcess) -> None:
    run.before_scoring = service.stop
    try:
        traces = run.by_url(ROWS, service.url)
    finally:
        service.start()

    assert rewards(traces) == [None, None]
    assert all("connection attempts failed" in error for error in errors(traces))


def test_a_url_gives_a_reward_to_the_samples_that_have_one(run: Run, service: ServiceProcess) -> None:
    bad = {"prompt": QUESTIONS[0], "query_type": "closed_ended"}

    traces = run.by_url([bad, ROWS[1]], service.url)

    assert rewards(traces) == [None, pytest.approx(service.score(ITEMS[1:])["rewards"][0], rel=1e-6)], errors(
        traces
    )
    assert "422" in errors(traces)[0]


def test_a_url_gives_no_reward_for_nan_of_a_model(run: Run, nan_service: ServiceProcess) -> None:
    traces = run.by_url(ROWS, nan_service.url)

    assert rewards(traces) == [None, None]
    assert all("500" in error for error in errors(traces))


def test_a_url_gives_no_reward_with_a_wrong_key(run: Run, keyed_service: ServiceProcess) -> None:
    traces = run.by_url(ROWS, keyed_service.url, "wrong")

    assert rewards(traces) == [None, None]
    assert all("401" in error for error in errors(traces))
