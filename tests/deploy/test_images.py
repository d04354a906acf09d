"""The Dockerfiles: linted, built on one base image, run by an unprivileged user, from files that exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, instructions, load_yaml
from tests.deploy.programs import program

DOCKERFILES = sorted([*ROOT.glob("docker/*.Dockerfile"), *ROOT.glob("docker/*/Dockerfile")])
each_dockerfile = pytest.mark.parametrize(
    "path", DOCKERFILES, ids=[str(path.relative_to(ROOT / "docker")) for path in DOCKERFILES]
)


def in_build_context(source: str) -> bool:
    """Whether .dockerignore leaves `source` in the build context; the last matching line counts."""
    included = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#"):
            pattern = rule.removeprefix("!")
            if any(fnmatch(str(part), pattern) for part in (Path(source), *Path(source).parents)):
                included = rule.startswith("!")
    return included


@each_dockerfile
def test_hadolint_finds_nothing(path: Path) -> None:
    command = [program("hadolint"), "-c", str(ROOT / "docker/hadolint.yaml"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout


@each_dockerfile
def test_an_image_needs_no_registry_except_for_its_base(path: Path) -> None:
    found = instructions(path)
    stages = {one.words[2] for one in found if one.keyword == "FROM" and len(one.words) == 3}
    bases = {one.words[0] for one in found if one.keyword == "FROM"}
    bases |= {one.options["from"] for one in found if "from" in one.options}

    assert {base for base in bases if not base.startswith("${")} <= stages
    assert "# syntax" not in path.read_text(encoding="utf-8")


@each_dockerfile
def test_an_image_runs_as_a_numbered_unprivileged_user(path: Path) -> None:
    users = [one.arguments for one in instructions(path) if one.keyword == "USER"]

    assert users[-1] == ["1000:1000"]


@each_dockerfile
def test_every_copied_file_exists_and_is_in_the_build_context(path: Path) -> None:
    copies = [one for one in instructions(path) if one.keyword == "COPY" and "from" not in one.options]
    sources = [source for copy in copies for source in copy.arguments[:-1]]

    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if not in_build_context(source)] == []


def test_every_default_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    arguments = [argument for path in DOCKERFILES for one in instructions(path) for argument in one.arguments]
    defaults = {argument for argument in arguments if argument.startswith("VERSION=")}
    compose = load_yaml("docker-compose.yml")["x-build-args"]["VERSION"]
    kustomization = load_yaml("deploy/kubernetes/kustomization.yaml")

    assert defaults == {f"VERSION={project['version']}"}
    assert compose == f"${{GLASSBOX_VERSION:-{project['version']}}}"
    assert [image["newTag"] for image in kustomization["images"]] == [project["version"]]


LOCKS = sorted((ROOT / "docker/locks").glob("*.txt"))


def locked(path: Path) -> dict[str, list[str]]:
    """The lines of each pinned package in a lock: its version, then its hashes."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {line[0].split("==")[0]: line for line in lines}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_one_version_and_hashes_and_names_no_index(path: Path) -> None:
    packages = locked(path)

    assert packages != {}
    for line in packages.values():
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line[0])
        assert any(word.startswith("--hash=sha256:") for word in line)
    assert not re.search(r"https?:|index|find-links", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("lock", "extras"), [("service", ["service", "math"]), ("trainer", ["train"])])
def test_an_images_lock_is_that_of_the_constraints_and_the_extras(lock: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in optional[extra])]
    packages = locked(ROOT / f"docker/locks/{lock}.txt")

    assert {re.split(r"[^\w-]", one.lower())[0] for one in wanted} - {"torch"} <= set(packages)
    assert "torch" not in packages


@pytest.mark.parametrize("lock", ["service", "trainer", "openrlhf"])
def test_a_lock_has_the_versions_of_the_constraints(lock: str) -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").splitlines()

    assert [
        line[0] for line in locked(ROOT / f"docker/locks/{lock}.txt").values() if line[0] not in constraints
    ] == []


@pytest.mark.parametrize(
    ("name", "locks", "unhashed"),
    [
        ("service", ["build", "service"], ["torch.txt", "--no-deps --no-index dist/"]),
        ("trainer", ["build", "trainer", "openrlhf"], ["torch.txt", "--no-deps --no-index dist/"]),
        ("trainer-cuda", ["build", "trainer-cuda", "openrlhf-cuda"], ["--no-deps --no-index dist/"]),
    ],
)
def test_an_image_installs_by_hash_all_but_torch_on_a_cpu_and_its_own_wheel(
    name: str, locks: list[str], unhashed: list[str]
) -> None:
    found = instructions(ROOT / f"docker/{name}.Dockerfile")
    runs = [" ".join(one.words) for one in found if one.keyword == "RUN"]
    installs = [
        command for run in runs for command in run.split("&&") if re.search(r"\bpip .*\binstall ", command)
    ]
    by_hash = [one for one in installs if "--require-hashes" in one and "--no-deps" in one]
    others = [one for one in installs if one not in by_hash]

    assert [one.split("-r ")[1].split()[0] for one in by_hash] == [f"{lock}.txt" for lock in locks]
    assert all(part in command for part, command in zip(unhashed, others, strict=True))


def test_what_is_built_for_gpus_is_built_with_the_cuda_version_of_torch() -> None:
    """Torch refuses another one when flash attention is built."""
    [pin] = [
        line[0] for line in locked(ROOT / "docker/locks/trainer-cuda.txt").values() if "cuda-runtime=" in line[0]
    ]
    version = ".".join(pin.split("==")[1].split(".")[:2])
    compose = load_yaml("docker-compose.gpu.yml")["services"]["trainer"]["build"]["args"]
    defaults = [word for one in instructions(ROOT / "docker/trainer-cuda.Dockerfile") for word in one.words]
    images = [text for text in (*defaults, *map(str, compose.values())) if "nvidia/cuda:" in text]

    assert len(images) == 4
    assert [text for text in images if f"nvidia/cuda:{version}." not in text] == []


def test_the_trainers_lock_for_gpus_has_what_openrlhf_requires_of_vllm_and_flash_attention() -> None:
    packages = locked(ROOT / "docker/locks/trainer-cuda.txt") | locked(ROOT / "docker/locks/openrlhf-cuda.txt")
    required = [one.partition(";")[0].strip() for one in requires("openrlhf") or [] if "==" in one]
    pins = {one.split("==")[0]: one for one in required if one.split("==")[0] in packages}

    assert {"vllm", "flash-attn", "deepspeed", "transformers"} <= set(pins)
    assert {name: packages[name][0] for name in pins} == pins


def test_keys_and_an_operators_recipes_stay_out_of_the_build_context() -> None:
    assert not in_build_context("docker/secrets/api_keys.txt")
    assert not in_build_context("docker/recipes/mine.yaml")
    assert not in_build_context(".env")
