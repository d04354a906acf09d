"""A model that does not exist is found before anything is loaded, with one request to the hub at most."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reward_client.hub import model_problem
from reward_evidence.sampling.policy_folder import check_policy, resolve_policy
from reward_runs.errors import PolicyError
from tests.json_server import Received, json_server


def folder(path: Path, *files: str) -> str:
    path.mkdir()
    for name in files:
        (path / name).write_text("{}")
    return str(path)


def test_a_folder_with_a_model_has_no_problem(tmp_path: Path) -> None:
    assert model_problem(folder(tmp_path / "m", "config.json")) is None
    assert "config.json is missing" in str(model_problem(folder(tmp_path / "empty")))


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "~/nowhere/at/all", "a/b/c"])
def test_a_path_that_does_not_exist_is_a_folder_that_is_missing(name: str) -> None:
    assert model_problem(name) == "there is no such folder"


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()

    assert "name the folder" in str(model_problem(str(tmp_path / "weights.safetensors")))


@pytest.mark.parametrize("name", ["a b", "model:v1", "-x"])
def test_what_can_be_no_id_of_the_hub_says_so(name: str) -> None:
    assert "OWNER/NAME" in str(model_problem(name))


def asked_of(hub: str, name: str) -> str:
    """What `model_problem` returns in a process that has `hub` for a hub."""
    code = f"from reward_client.hub import model_problem; print(model_problem({name!r}))"
    environment = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": "/nowhere/cache", "PATH": "/usr/bin"}
    search = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": ":".join(search)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (404, "RepoNotFound", "has no such model"),
        (404, "EntryNotFound", "config.json is missing"),
        (403, "GatedRepo", "accept its conditions"),
        (500, "", "cannot be reached"),
    ],
)
def test_the_hub_is_asked_once(status: int, code: str, cause: str) -> None:
    received: list[str] = []

    def answer(request: Received) -> tuple[int, Any]:
        received.append(request.path)
        return status, {}

    with json_server(answer, headers={"X-Error-Code": code}) as url:
        found = asked_of(url, "owner/name")

    assert cause in found
    assert [path for path in received if "resolve" in path] == ["/owner/name/resolve/main/config.json"]


def test_a_hub_that_is_not_there_is_named_at_once() -> None:
    assert "the Hugging Face hub cannot be reached" in asked_of("http://127.0.0.1:9", "owner/name")


def test_a_policy_that_does_not_exist_is_an_error_before_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="policy '/nowhere/policy' cannot be loaded: there is no such folder"):
        check_policy("/nowhere/policy")
    assert resolve_policy(folder(tmp_path / "m", "config.json")) == str(tmp_path / "m")


@pytest.mark.parametrize("option", ["--encoder", "--gold"])
def test_a_service_with_a_model_that_does_not_exist_does_not_start(option: str) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "reward_service", "--port", "0", option, "/nowhere/model"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert done.stderr == f"reward_service: {option} /nowhere/model: there is no such folder\n"
    assert time.monotonic() - started < 15  # a second on a machine that is not busy


def test_a_service_without_models_imports_no_library_for_them() -> None:
    code = (
        "import sys, reward_service.process.server as server\n"
        "from reward_service.settings import Settings\n"
        "settings = Settings(encoder='none', gold='none', default_recipe='li')\n"
        "server.create_app(settings), server.import_model_libraries(settings)\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'sympy', 'openvino', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
