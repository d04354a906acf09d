"""The compose files: every combination is valid, closed and limited, and .env.example documents every variable."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reward_service.process.supervisor import KILL_GRACE_S
from reward_service.settings import Settings
from tests.deploy.files import ROOT, env_examples, in_bytes, load_yaml, peak_bytes, scalars
from tests.deploy.programs import program, skip_or_fail

pytestmark = pytest.mark.slow

OVERRIDES = ("docker-compose.hub.yml", "docker-compose.gpu.yml")
PROFILES = ("train", "observe")
FIXED_BY_COMPOSE = {"host", "port", "metrics_port", "api_keys_file", "recipes_dir", "datasets_dir"}
NEVER_PASSED = {"api_key", "gold_api_key"}  # docker inspect shows a container's environment
BUILD_STAMPS = {"GLASSBOX_VERSION", "GLASSBOX_REVISION"}


def combinations(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [chosen for n in range(len(names) + 1) for chosen in itertools.combinations(names, n)]


def compose_config(files: tuple[str, ...], profiles: tuple[str, ...], env_file: Path) -> dict[str, Any]:
    """The merged files, as `docker compose config` prints them; it needs the docker client, and no engine."""
    command = [program("docker"), "compose", "--env-file", str(env_file)]
    command += [word for file in ("docker-compose.yml", *files) for word in ("-f", str(ROOT / file))]
    command += [word for profile in profiles for word in ("--profile", profile)]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [*command, "config", "--format", "json"], capture_output=True, text=True, env=environment, timeout=60
    )
    if "is not a docker command" in done.stderr or "unknown flag: --env-file" in done.stderr:
        skip_or_fail("the docker client has no compose plugin")
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def passed_to_service(prefix: str = "GLASSBOX_") -> set[str]:
    """Variables that docker-compose.yml passes to the service with the value that .env or the shell gives them."""
    environment = load_yaml("docker-compose.yml")["services"]["service"]["environment"]
    return {name for name, value in environment.items() if value is None and name.startswith(prefix)}


def interpolated(document: object) -> set[str]:
    """The variables that a compose file interpolates: `${NAME}`, `${NAME:-default}`, nested ones too."""
    return {name for text in scalars(document) for name in re.findall(r"\$\{([A-Z][A-Z0-9_]+)", text)}


@pytest.fixture
def empty_env_file(tmp_path: Path) -> Path:
    path = tmp_path / "env"
    path.touch()
    return path


@pytest.mark.parametrize("profiles", combinations(PROFILES), ids="+".join)
@pytest.mark.parametrize("files", combinations(OVERRIDES), ids="+".join)
def test_every_combination_of_files_and_profiles_is_valid(
    files: tuple[str, ...], profiles: tuple[str, ...], empty_env_file: Path
) -> None:
    services = compose_config(files, profiles, empty_env_file)["services"]

    expected = {"service", "proxy"}
    expected |= {"trainer"} if "train" in profiles else set()
    expected |= {"prometheus", "grafana"} if "observe" in profiles else set()
    assert set(services) == expected


def test_every_example_in_the_env_file_is_the_default_of_compose(tmp_path: Path, empty_env_file: Path) -> None:
    """Removing a # changes nothing until the value is changed."""
    own = {name: value for name, value in env_examples().items() if name not in passed_to_service()}
    all_set = tmp_path / "all"
    all_set.write_text("".join(f"{name}={value}\n" for name, value in own.items()))

    assert compose_config((), PROFILES, all_set) == compose_config((), PROFILES, empty_env_file)


@pytest.mark.parametrize("name", ["docker-compose.yml", *OVERRIDES])
def test_every_variable_of_the_compose_files_is_in_the_env_file(name: str) -> None:
    used = {variable for variable in interpolated(load_yaml(name)) if not variable.startswith("REWARD_")}

    assert used != set()
    assert used - BUILD_STAMPS - set(env_examples()) == set()


def test_every_service_setting_in_the_env_file_exists_and_has_its_default() -> None:
    given = {
        name.removeprefix("GLASSBOX_").lower(): value
        for name, value in env_examples().items()
        if name in passed_to_service()
    }

    assert set(given) <= set(Settings.model_fields)
    for name, value in given.items():
        default = Settings.model_fields[name].default
        assert default is None or str(getattr(Settings.model_validate({name: value}), name)) == str(default), name


def test_compose_passes_on_every_setting_that_it_does_not_fix() -> None:
    """A new setting of the service belongs into docker-compose.yml and .env.example too."""
    expected = {name.upper() for name in set(Settings.model_fields) - FIXED_BY_COMPOSE - NEVER_PASSED}

    assert passed_to_service() == {f"GLASSBOX_{name}" for name in expected}
    assert passed_to_service("REWARD_") <= {f"REWARD_{name}" for name in expected}


def test_containers_have_longer_to_stop_than_requests_have_to_finish(empty_env_file: Path) -> None:
    service = compose_config((), (), empty_env_file)["services"]["service"]

    period = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", service["stop_grace_period"])
    assert period is not None
    seconds = int(period[1] or 0) * 60 + int(period[2] or 0)
    assert seconds > Settings.model_fields["stop_timeout_s"].default + KILL_GRACE_S


def test_the_memory_of_a_replica_fits_the_peak_of_the_default_settings(empty_env_file: Path) -> None:
    service = compose_config((), (), empty_env_file)["services"]["service"]
    (scratch,) = (re.search(r"size=(\w+)", mount)[1] for mount in service["tmpfs"])  # type: ignore[index]

    assert int(service["mem_limit"]) > peak_bytes(in_bytes(scratch))


@pytest.mark.parametrize("files", combinations(OVERRIDES), ids="+".join)
def test_every_container_is_closed_and_limited(files: tuple[str, ...], empty_env_file: Path) -> None:
    services = compose_config(files, PROFILES, empty_env_file)["services"]

    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"] > 0, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name


def test_service_and_trainer_get_the_gpus_that_the_env_file_names(tmp_path: Path) -> None:
    chosen = tmp_path / "env"
    chosen.write_text("TRAINER_GPUS=4\nSERVICE_GPU=7\n")
    services = compose_config(("docker-compose.gpu.yml",), PROFILES, chosen)["services"]

    devices = {
        name: services[name]["deploy"]["resources"]["reservations"]["devices"][0]
        for name in ("service", "trainer")
    }
    assert int(devices["trainer"]["count"]) == 4
    assert devices["service"]["device_ids"] == ["7"]


def test_without_an_override_service_and_trainer_are_on_the_internal_network_only(empty_env_file: Path) -> None:
    config = compose_config((), PROFILES, empty_env_file)

    assert config["networks"]["inside"]["internal"] is True
    assert set(config["services"]["service"]["networks"]) == {"inside"}
    assert set(config["services"]["trainer"]["networks"]) == {"inside"}
