"""What every test cannot run still holds together: compose files, images, alerts, dashboard, manifests."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reward_service.settings import Settings
from reward_service.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted([*ROOT.glob("docker/*.Dockerfile"), *ROOT.glob("docker/*/Dockerfile")])
MANIFESTS = sorted(path for path in ROOT.glob("deploy/kubernetes/*.yaml") if path.name != "kustomization.yaml")
OVERRIDES = ("docker-compose.hub.yml", "docker-compose.gpu.yml")
PROFILES = ("train", "observe")
FIXED_BY_COMPOSE = {"host", "port", "api_keys_file", "recipes_dir"}
NEVER_PASSED = {"api_key"}  # a key in a container's environment is shown by docker inspect


def tool(name: str) -> str:
    """Path of a program; a test that lacks it is skipped, in CI it fails."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{message}; CI must have it")
        pytest.skip(message)
    return path


def combinations(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [chosen for n in range(len(names) + 1) for chosen in itertools.combinations(names, n)]


def compose_config(
    files: tuple[str, ...], profiles: tuple[str, ...], env_file: Path, **variables: str
) -> dict[str, Any]:
    """What `docker compose config` makes of the files; needs no engine, only the client with its plugin."""
    docker = tool("docker")
    command = [docker, "compose", "--env-file", str(env_file)]
    for file in ("docker-compose.yml", *files):
        command += ["-f", str(ROOT / file)]
    for profile in profiles:
        command += ["--profile", profile]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [*command, "config", "--format", "json"],
        capture_output=True,
        text=True,
        env=environment | variables,
        timeout=60,
    )
    if "is not a docker command" in done.stderr or "unknown flag: --env-file" in done.stderr:
        if os.environ.get("CI"):
            pytest.fail("the docker client has no compose plugin; CI must have it")
        pytest.skip("the docker client has no compose plugin")
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads(done.stdout)
    return config


@pytest.fixture
def nothing_set(tmp_path: Path) -> Path:
    path = tmp_path / "env"
    path.touch()
    return path


def passed_to_service(prefix: str = "GLASSBOX_") -> set[str]:
    """Variables that docker-compose.yml passes to the service with the value that .env or the shell gives them."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    environment = compose["services"]["service"]["environment"]
    return {name for name, value in environment.items() if value is None and name.startswith(prefix)}


def all_examples(path: Path) -> dict[str, str]:
    """Settings of .env.example, as if every line were switched on."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"#([A-Z][A-Z0-9_]+)=(.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


# Compose -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profiles", combinations(PROFILES), ids="+".join)
@pytest.mark.parametrize("files", combinations(OVERRIDES), ids="+".join)
def test_every_combination_of_files_and_profiles_is_valid(
    files: tuple[str, ...], profiles: tuple[str, ...], nothing_set: Path
) -> None:
    services = compose_config(files, profiles, nothing_set)["services"]

    expected = {"service", "proxy"}
    expected |= {"trainer"} if "train" in profiles else set()
    expected |= {"prometheus", "grafana"} if "observe" in profiles else set()
    assert set(services) == expected


def test_every_example_in_the_env_file_is_the_default_that_compose_has(tmp_path: Path, nothing_set: Path) -> None:
    """So that a person who takes a # away changes nothing before changing the value."""
    examples = all_examples(ROOT / ".env.example")
    switched_on = tmp_path / "all"
    own = {name: value for name, value in examples.items() if name not in passed_to_service()}
    switched_on.write_text("".join(f"{name}={value}\n" for name, value in own.items()))

    assert compose_config((), PROFILES, switched_on) == compose_config((), PROFILES, nothing_set)


def test_every_variable_of_the_compose_files_is_explained_in_the_env_file() -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("docker-compose.yml", *OVERRIDES)]
    used = {name for text in texts for name in re.findall(r"\$\{(?!REWARD_)([A-Z][A-Z0-9_]+)", text)}
    build_stamps = {"GLASSBOX_VERSION", "GLASSBOX_REVISION"}

    assert used - build_stamps - set(all_examples(ROOT / ".env.example")) == set()


def test_every_reward_setting_in_the_env_file_is_one_of_the_service_with_its_default() -> None:
    examples = all_examples(ROOT / ".env.example")
    given = {
        name.removeprefix("GLASSBOX_").lower(): value
        for name, value in examples.items()
        if name in passed_to_service()
    }

    assert set(given) <= set(Settings.model_fields)
    for name, value in given.items():
        default = Settings.model_fields[name].default
        assert default is None or str(getattr(Settings.model_validate({name: value}), name)) == str(default), name


def test_compose_passes_on_every_setting_that_it_does_not_fix(nothing_set: Path) -> None:
    """A new setting of the service belongs into docker-compose.yml and .env.example too."""
    expected = {name.upper() for name in set(Settings.model_fields) - FIXED_BY_COMPOSE - NEVER_PASSED}

    assert passed_to_service() == {f"GLASSBOX_{name}" for name in expected}
    assert passed_to_service("REWARD_") == {f"REWARD_{name}" for name in expected}


def test_containers_have_longer_to_stop_than_requests_have_to_finish(nothing_set: Path) -> None:
    service = compose_config((), (), nothing_set)["services"]["service"]

    seconds = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", service["stop_grace_period"])
    assert seconds is not None
    assert int(seconds[1] or 0) * 60 + int(seconds[2] or 0) > Settings.model_fields["stop_timeout_s"].default + 10


@pytest.mark.parametrize("files", combinations(OVERRIDES), ids="+".join)
def test_every_container_is_closed_and_limited(files: tuple[str, ...], nothing_set: Path) -> None:
    services = compose_config(files, PROFILES, nothing_set)["services"]

    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"] > 0, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name


def test_the_trainer_gets_as_many_gpus_as_are_asked_for(tmp_path: Path) -> None:
    chosen = tmp_path / "env"
    chosen.write_text("TRAINER_GPUS=4\nSERVICE_GPU=7\n")
    services = compose_config(("docker-compose.gpu.yml",), PROFILES, chosen)["services"]

    devices = {
        name: services[name]["deploy"]["resources"]["reservations"]["devices"][0]
        for name in ("service", "trainer")
    }
    assert int(devices["trainer"]["count"]) == 4
    assert devices["service"]["device_ids"] == ["7"]


def test_without_an_override_service_and_trainer_have_no_way_out(nothing_set: Path) -> None:
    config = compose_config((), PROFILES, nothing_set)

    assert config["networks"]["inside"]["internal"] is True
    assert set(config["services"]["service"]["networks"]) == {"inside"}
    assert set(config["services"]["trainer"]["networks"]) == {"inside"}


# Images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT / "docker")))
def test_hadolint_finds_nothing(path: Path) -> None:
    command = [tool("hadolint"), "-c", str(ROOT / "docker/hadolint.yaml"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT / "docker")))
def test_an_image_is_built_without_a_registry_but_its_base_and_runs_as_a_number(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) | set(re.findall(r"--from=(\S+)", text))

    assert {base for base in bases if not base.startswith("${")} <= stages
    assert "# syntax" not in text
    assert re.search(r"^USER 1000:1000$", text, re.MULTILINE)


# Prometheus, Grafana -----------------------------------------------------------------------------------------


def known_metrics() -> set[str]:
    """Names of the samples that the service can expose."""
    types = re.findall(r"^# TYPE (\w+) (counter|histogram|gauge)$", Metrics().exposition().decode(), re.MULTILINE)
    suffixes = {"counter": ("",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {name + suffix for name, kind in types for suffix in suffixes[kind]}


def named_metrics(expression: str) -> set[str]:
    return set(re.findall(r"\bglassbox_[a-z_]+", expression))


def test_alerts_and_dashboard_name_metrics_that_the_service_has() -> None:
    groups = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    dashboard = json.loads((ROOT / "docker/grafana/glassbox.json").read_text(encoding="utf-8"))
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in named_metrics(expression)}

    assert len(named) >= 6
    assert named - known_metrics() == set()


def test_every_alert_says_what_to_do_and_is_tried_by_the_rule_tests() -> None:
    groups = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    tests = yaml.safe_load((ROOT / "docker/prometheus/alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    rules = [rule for group in groups for rule in group["rules"]]

    assert all(set(rule["annotations"]) == {"summary", "description"} for rule in rules)
    assert {rule["alert"] for rule in rules} == fired


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((ROOT / "docker/grafana/datasources.yml").read_text(encoding="utf-8"))["datasources"]
    dashboard = json.loads((ROOT / "docker/grafana/glassbox.json").read_text(encoding="utf-8"))

    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"] for source in sources}


# Kubernetes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_fits_the_schema_of_kubernetes(path: Path) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed (extra: dev)"
    )
    manifest = yaml.safe_load(path.read_text(encoding="utf-8"))

    validate.validate(manifest, desired_version="1.31", strict=True)


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / f"deploy/kubernetes/{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def test_the_kustomization_names_every_manifest_and_the_image_that_they_use() -> None:
    kustomization = manifest("kustomization")
    (container,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]

    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]
    assert [image["name"] for image in kustomization["images"]] == [container["image"]]


def test_the_manifests_select_the_pods_of_the_deployment() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]

    assert manifest("deployment")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("disruption")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("network")["spec"]["podSelector"]["matchLabels"] == labels
    assert manifest("autoscaler")["spec"]["scaleTargetRef"]["name"] == manifest("deployment")["metadata"]["name"]


def test_the_pods_settings_are_settings_of_the_service_and_leave_time_to_drain() -> None:
    pod = manifest("deployment")["spec"]["template"]["spec"]
    settings = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    names = {name.removeprefix("GLASSBOX_").lower() for name in settings}

    assert names - {"api_keys_file"} <= set(Settings.model_fields)
    assert pod["terminationGracePeriodSeconds"] > 10 + int(settings["GLASSBOX_STOP_TIMEOUT_S"])
