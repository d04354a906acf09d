"""The service as a Ray Serve application, on a local Ray instance. `make test` runs this file in `.venv-serve`."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
import yaml

if int(version("protobuf").split(".")[0]) >= 7:
    pytest.skip(
        "the extra ray is not installed here; make test runs these in .venv-serve", allow_module_level=True
    )
serve = pytest.importorskip("ray.serve", reason="Ray Serve is not installed (extra: ray)")

import ray  # noqa: E402

from reward_service.errors import ConfigurationError  # noqa: E402
from reward_service.ray_app import RayArguments, build, deployment_options, replica_app  # noqa: E402
from reward_service.settings import Settings  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 60
BODY = {"items": [{"prompt": "Why is the sky blue?", "response": "Air scatters blue light most."}]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """URL of Serve's proxy, in front of two replicas with the real encoder."""
    variables = {
        "GLASSBOX_GOLD": "none",
        "GLASSBOX_THREADS": "1",
        "GLASSBOX_ALLOW_ANONYMOUS": "true",
        "HF_HUB_OFFLINE": "1",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(
        num_cpus=3, include_dashboard=False, object_store_memory=200 << 20, runtime_env={"env_vars": variables}
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 200})
        # Returns when both replicas are healthy, which requires loaded models.
        serve.run(build(RayArguments(min_replicas=2, max_replicas=2, cpus=1)), name="glassbox", blocking=False)
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def scored_by(address: str) -> float:
    """Number of requests to /score that one replica has answered; Serve selects the replica."""
    text = httpx.get(f"{address}/metrics", timeout=30).text
    found = re.search(r'^glassbox_requests_total\{route="/score",status="200"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def counts_of_both(address: str) -> set[float]:
    """Results of `scored_by`, polled until both replicas have been selected: assumes that their counts differ."""
    counts: set[float] = set()
    deadline = time.monotonic() + POLL_S
    with ThreadPoolExecutor(8) as pool:
        while len(counts) < 2 and time.monotonic() < deadline:
            counts.update(pool.map(scored_by, [address] * 16))
    return counts


@pytest.mark.slow
def test_no_request_reaches_a_replica_before_its_models_are_loaded(url: str) -> None:
    """Runs first in this module: sends requests as soon as Serve reports that the replicas are running."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.get(f"{url}/readyz", timeout=30), range(40)))

    assert {answer.status_code for answer in answers} == {200}, {answer.text for answer in answers}


@pytest.mark.slow
def test_requests_are_distributed_over_two_replicas_with_equal_rewards(url: str) -> None:
    n = 41  # odd, so that the counts of two replicas differ

    def reward(_: int) -> float:
        reply = httpx.post(f"{url}/score", json=BODY, timeout=60)
        assert reply.status_code == 200, reply.text
        return float(reply.json()["rewards"][0])

    with ThreadPoolExecutor(8) as pool:
        rewards = list(pool.map(reward, range(n)))
    counts = counts_of_both(url)

    states = serve.status().applications["glassbox"].deployments["Glassbox"].replica_states
    assert {str(getattr(state, "value", state)): count for state, count in states.items()} == {"RUNNING": 2}
    assert len(counts) == 2
    assert min(counts) > 0
    assert sum(counts) == n
    assert rewards == pytest.approx([rewards[0]] * n, abs=1e-5)


@pytest.mark.slow
def test_an_invalid_item_is_rejected_with_its_field(url: str) -> None:
    reply = httpx.post(f"{url}/score", json={"items": [{"prompt": "Hi?"}]}, timeout=30)

    assert reply.status_code == 422
    assert "items.0.response" in reply.text


@pytest.mark.parametrize("host", [None, "127.0.0.1", "::1", "localhost"])
def test_a_replica_without_a_key_needs_allow_anonymous_whatever_the_host(
    host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSBOX_GOLD", "none")
    if host is not None:
        monkeypatch.setenv("GLASSBOX_HOST", host)

    with pytest.raises(ConfigurationError, match="--allow-anonymous"):
        replica_app()
    monkeypatch.setenv("GLASSBOX_ALLOW_ANONYMOUS", "true")
    replica_app()


def test_replicas_that_do_not_share_data_sets_are_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(RayArguments(max_replicas=1))
    monkeypatch.setenv("GLASSBOX_DATASETS_DIR", str(tmp_path))
    build(RayArguments(max_replicas=2))
    assert "GLASSBOX_DATASETS_DIR" not in caplog.text

    monkeypatch.delenv("GLASSBOX_DATASETS_DIR")
    build(RayArguments(max_replicas=2))
    assert "an uploaded data set reaches one of 2 replicas" in caplog.text


def test_a_disabled_model_reserves_no_share_of_a_gpu() -> None:
    arguments = RayArguments(encoder_gpus=0.125, gold_gpus=0.25)

    assert deployment_options(arguments, Settings())["ray_actor_options"]["num_gpus"] == 0.375
    assert deployment_options(arguments, Settings(gold="none"))["ray_actor_options"]["num_gpus"] == 0.125


def test_the_file_for_serve_deploy_is_valid_and_its_variables_are_settings() -> None:
    from ray.serve.schema import ServeDeploySchema

    loaded = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text(encoding="utf-8"))
    (application,) = ServeDeploySchema.model_validate(loaded).applications
    variables = loaded["applications"][0]["runtime_env"]["env_vars"]

    assert application.import_path == "reward_service.ray_app:build"
    assert RayArguments(**application.args).max_replicas == 5
    assert {name.removeprefix("GLASSBOX_").lower() for name in variables} <= set(Settings.model_fields)
