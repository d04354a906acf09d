"""The check of the containers finds what is open; each case opens one thing in a container that is closed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tools.harden_check import container_problems, image_problems

CLOSED: dict[str, Any] = {
    "HostConfig": {
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": None,
        "SecurityOpt": ["no-new-privileges:true"],
        "Memory": 1 << 30,
        "PidsLimit": 128,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
        "NetworkMode": "glassbox_inside",
        "PidMode": "",
        "IpcMode": "private",
        "UTSMode": "",
        "UsernsMode": "",
        "PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]},
        "RestartPolicy": {"Name": "unless-stopped"},
    },
    "Config": {
        "User": "1000:1000",
        "Env": ["PATH=/bin", "GLASSBOX_API_KEYS_FILE=/run/secrets/api_keys", "TOKENIZERS_PARALLELISM=false"],
        "Healthcheck": {"Test": ["CMD", "true"]},
    },
    "Mounts": [{"Source": "/var/lib/docker/volumes/models/_data"}],
}


def opened(section: str, name: str, value: object) -> dict[str, Any]:
    facts = copy.deepcopy(CLOSED)
    if section:
        facts[section][name] = value
    else:
        facts[name] = value
    return facts


def test_a_closed_container_has_no_problem() -> None:
    assert container_problems("service", CLOSED) == []


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("HostConfig", "ReadonlyRootfs", False),
        ("HostConfig", "Privileged", True),
        ("HostConfig", "CapDrop", None),
        ("HostConfig", "CapAdd", ["NET_ADMIN"]),
        ("HostConfig", "SecurityOpt", None),
        ("HostConfig", "Memory", 0),
        ("HostConfig", "PidsLimit", None),
        ("HostConfig", "LogConfig", {"Type": "json-file", "Config": {}}),
        ("HostConfig", "NetworkMode", "host"),
        ("HostConfig", "PidMode", "host"),
        ("HostConfig", "PortBindings", {"8000/tcp": [{"HostIp": "", "HostPort": "8000"}]}),
        ("HostConfig", "RestartPolicy", {"Name": "no"}),
        ("Config", "User", ""),
        ("Config", "User", "0:0"),
        ("Config", "Env", ["WANDB_API_KEY=abc"]),
        ("Config", "Healthcheck", {"Test": ["NONE"]}),
        ("", "Mounts", [{"Source": "/var/run/docker.sock"}]),
    ],
)
def test_each_opening_is_found(section: str, name: str, value: object) -> None:
    assert len(container_problems("service", opened(section, name, value))) == 1


def test_the_trainer_is_excused_from_what_a_one_shot_does_not_have() -> None:
    facts = opened("HostConfig", "RestartPolicy", {"Name": "no"})
    facts["Config"]["Healthcheck"] = {"Test": ["NONE"]}

    assert container_problems("trainer", facts) == []


def test_an_image_with_a_compiler_without_labels_and_for_root_has_three_problems() -> None:
    image: dict[str, Any] = {"Config": {"User": "", "Env": [], "Labels": None}}

    problems = image_problems("x", image, "RUN true", ["gcc"])

    assert len(problems) == 3
    assert "gcc" in problems[1]
