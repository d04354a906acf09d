"""verifiers with a reward function that the TOML of the run names."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.frameworks.process import AWAY_S, ServiceProcess
from tests.frameworks.vf_eval import ITEMS, QUESTIONS, ROWS, Run, errors, rewards


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_function_has_the_reward_of_the_service_and_logs_features(run: Run, service: ServiceProcess) -> None:
    direct = service.score(ITEMS)

    traces = run.by_function(ROWS, URL=service.url)

    assert rewards(traces) == pytest.approx(direct["rewards"], rel=1e-6)
    for trace, result in zip(traces, direct["results"], strict=True):
        applicable = {name: value for name, value in result["features"].items() if value is not None}
        assert trace["metrics"] == {f"glassbox/{name}": value for name, value in applicable.items()}


def test_a_function_waits_for_a_service_that_comes_back(run: Run, service: ServiceProcess) -> None:
    direct = service.score(ITEMS)
    with ExitStack() as stack:
        run.before_scoring = lambda: stack.enter_context(service.away(max(10.0, AWAY_S)))
        traces = run.by_function(ROWS, URL=service.url)

    assert rewards(traces) == pytest.approx(direct["rewards"], rel=1e-6)


def test_a_function_gives_no_reward_when_the_service_stays_away(run: Run, service: ServiceProcess) -> None:
    with service.stopped():
        traces = run.by_function(ROWS, URL=service.url, DEADLINE_S="2")

    assert rewards(traces) == [None, None]
    assert all("RewardUnavailableError" in error for error in errors(traces))


def test_a_function_gives_a_reward_to_the_samples_that_have_one(run: Run, service: ServiceProcess) -> None:
    bad = {"prompt": QUESTIONS[0], "query_type": "closed_ended"}

    traces = run.by_function([bad, ROWS[1]], URL=service.url)

    assert rewards(traces) == [None, pytest.approx(service.score(ITEMS[1:])["rewards"][0], rel=1e-6)], errors(
        traces
    )
    assert "reference: is needed for a closed_ended item" in errors(traces)[0]


def test_a_function_gives_no_reward_for_nan_of_a_model(run: Run, nan_service: ServiceProcess) -> None:
    traces = run.by_function(ROWS, URL=nan_service.url)

    assert rewards(traces) == [None, None]
    assert all(errors(traces))


def test_a_function_gives_no_reward_with_a_wrong_key(run: Run, keyed_service: ServiceProcess) -> None:
    traces = run.by_function(ROWS, URL=keyed_service.url, API_KEY="wrong")

    assert rewards(traces) == [None, None]
    assert all("401" in error for error in errors(traces))
