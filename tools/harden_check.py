"""Check that the containers are hardened as documented: python -m tools.harden_check --project glassbox

    docker inspect ──▶ container_problems() ──┐
    docker image inspect, history ──▶ image_problems() ──▶ sentences       pure

EXCEPTIONS lists the deviations and their reasons. The items are those of sections 4 and 5 of the CIS Docker
Benchmark that apply to compose containers.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]
"""Output of `docker inspect` for a container or an image."""

EXCEPTIONS = {
    ("trainer", "health check"): "a run ends by itself, its launcher monitors it, and it has no port to check",
    ("trainer", "restart policy"): "a failed run is resumed by a person after reading the cause",
    (
        "*",
        "restart at most five times",
    ): "replicas must restart after every failure; alerts report frequent restarts",
    (
        "*",
        "apt in the image",
    ): "part of the base image; without root, capabilities and a writable root it cannot install packages",
    ("*", "setuid programs in the base"): "no-new-privileges makes them ordinary programs",
}
"""Items that are not met: (container, item) → reason."""

TOOLS = ("gcc", "g++", "cc", "clang", "make", "cmake", "ld", "nvcc", "git", "curl", "wget", "pip", "pip3")
"""Programs that build or download, which no image may contain."""

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSW(OR)?D|CREDENTIAL)", re.IGNORECASE)
_NOT_SECRET = re.compile(r"(_FILE|_PATH|TOKENIZERS_PARALLELISM|GPG_KEY)$")
_TIMEOUT_S = 120


def container_problems(service: str, facts: Facts) -> list[str]:
    """Return the problems of a container of `service`, a sentence each."""
    host, config = facts["HostConfig"], facts["Config"]
    found = [
        *_when(not host["ReadonlyRootfs"], "its root file system is writable"),
        *_when(host["Privileged"], "it is privileged"),
        *_when(host["CapDrop"] != ["ALL"], "capabilities are not dropped"),
        *_when(bool(host["CapAdd"]), f"capabilities are added: {host['CapAdd']}"),
        *_when(not _no_new_privileges(host["SecurityOpt"] or []), "it may gain privileges"),
        *_when(not host["Memory"], "it has no memory limit"),
        *_when(not host["PidsLimit"] or host["PidsLimit"] < 0, "it has no process limit"),
        *_when("max-size" not in host["LogConfig"]["Config"], "its log has no size limit"),
        *_namespaces(host),
        *_mounts(facts),
        *_ports(host),
        *_user(config["User"]),
        *_secrets(config["Env"] or []),
    ]
    if (service, "health check") not in EXCEPTIONS:
        found += _when(not _has_health_check(config), "it has no health check")
    if (service, "restart policy") not in EXCEPTIONS:
        found += _when(host["RestartPolicy"]["Name"] == "no", "it has no restart policy")
    return [f"{service}: {problem}" for problem in found]


def image_problems(name: str, facts: Facts, history: str, programs: Sequence[str]) -> list[str]:
    """Return the problems of an image; `programs` are those of TOOLS that were found in it."""
    config = facts["Config"]
    labels = config["Labels"] or {}
    missing = [
        label for label in ("title", "description", "licenses", "version", "revision") if _oci(label) not in labels
    ]
    found = [
        *_user(config["User"]),
        *_secrets(config["Env"] or []),
        *_when(bool(programs), f"it contains {', '.join(programs)}"),
        *_when(bool(missing), f"it lacks the OCI labels {', '.join(missing)}"),
        *_when(bool(re.search(r"\bADD\s+http", history)), "a layer was downloaded with ADD"),
    ]
    return [f"image {name}: {problem}" for problem in found]


def _when(condition: bool, problem: str) -> list[str]:
    return [problem] if condition else []


def _oci(label: str) -> str:
    return f"org.opencontainers.image.{label}"


def _no_new_privileges(options: Sequence[str]) -> bool:
    return any(option in {"no-new-privileges", "no-new-privileges:true"} for option in options)


def _namespaces(host: Facts) -> list[str]:
    modes = ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode")
    return [f"it shares the host's {mode}" for mode in modes if host.get(mode) == "host"]


def _mounts(facts: Facts) -> list[str]:
    sources = [str(mount.get("Source", "")) for mount in facts["Mounts"]]
    return [f"it mounts {source}" for source in sources if source.endswith("docker.sock") or source == "/"]


def _ports(host: Facts) -> list[str]:
    bindings = [binding for bound in (host["PortBindings"] or {}).values() for binding in bound or []]
    everywhere = {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    return [f"port {b['HostPort']} is published on all addresses" for b in bindings if b["HostIp"] in everywhere]


def _user(user: str) -> list[str]:
    return _when(user.split(":")[0] in {"", "0", "root"}, f"its user is {user or 'root'}")


def _secrets(environment: Sequence[str]) -> list[str]:
    pairs = (line.partition("=") for line in environment)
    return [
        f"its environment contains {name}"
        for name, _, value in pairs
        if value and _SECRET_NAME.search(name) and not _NOT_SECRET.search(name)
    ]


def _has_health_check(config: Facts) -> bool:
    test = (config.get("Healthcheck") or {}).get("Test") or []
    return bool(test) and test != ["NONE"]


# Reading from the engine -------------------------------------------------------------------------------------


def _docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments],  # noqa: S607 - docker is looked up on PATH
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise SystemExit(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _found_programs(image: str) -> list[str]:
    script = f"for name in {' '.join(TOOLS)}; do command -v $name > /dev/null && echo $name; done; true"
    closed = ("--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--entrypoint", "sh")
    return _docker("run", *closed, image, "-c", script).split()


def check_project(project: str, secret: str | None = None) -> tuple[list[str], list[str]]:
    """Return the services that were checked, and each problem; `secret` must not occur in any output of docker."""
    ids = _docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={project}").split()
    if not ids:
        raise SystemExit(f"no container of the compose project {project}: docker compose up first")
    text = _docker("inspect", *ids)
    problems, services, images = [], [], {}
    for facts in json.loads(text):
        service = facts["Config"]["Labels"]["com.docker.compose.service"]
        services.append(service)
        problems += container_problems(service, facts)
        images[facts["Config"]["Image"]] = facts["Image"]
    for name, image in sorted(images.items()):
        described = _docker("image", "inspect", image)
        history = _docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
        problems += image_problems(name, json.loads(described)[0], history, _found_programs(image))
        text += described + history
    if secret and secret in text:
        problems.append("a key occurs in the output of docker inspect or docker history")
    return sorted(services), problems


def main() -> int:
    """Print each problem; 1 when there is one."""
    parser = argparse.ArgumentParser(description="Check the containers of a compose project.")
    parser.add_argument("--project", default="glassbox", metavar="NAME", help="default: glassbox")
    services, problems = check_project(parser.parse_args().project)
    sys.stdout.write(f"checked {', '.join(services)}\n" + "".join(f"problem: {problem}\n" for problem in problems))
    for (service, item), reason in EXCEPTIONS.items():
        sys.stdout.write(f"exception ({service}, {item}): {reason}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
