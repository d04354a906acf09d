"""Write the locks of the service's image: every package with the hashes of its files. python -m tools.lock

    the extras EXTRAS in pyproject.toml ─┐
    constraints.txt ─────────────────────┴─▶ pip-compile ─▶ docker/locks/service.txt    all of it except torch
    BUILD_TOOLS ───────────────────────────▶ pip-compile ─▶ docker/locks/build.txt      what builds the image

pip-compile is installed in `.venv-lock`, which has this Python's version: it must be that of the images. It asks
the package index for the hashes of all files of a version, of other platforms too, which takes some minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv-lock"
COMPILER = "pip-tools==7.6.2"
EXTRAS = ["service", "math"]
"""The image has `math`, so that a reward does not depend on where the service runs: 5 MB, as torch needs sympy."""
BUILD_TOOLS = ["hatchling", "cyclonedx-bom"]
OPTIONS = [
    *("--quiet", "--generate-hashes", "--strip-extras", "--no-header", "--no-annotate"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
]


def main() -> None:
    """Write both locks."""
    if not TOOLS.exists():
        subprocess.run([sys.executable, "-m", "venv", str(TOOLS)], check=True)
        subprocess.run([str(TOOLS / "bin/pip"), "install", "--quiet", COMPILER], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in EXTRAS for requirement in project["optional-dependencies"][extra]]
    wanted = [*project["dependencies"], *extras]
    without_torch = ["--unsafe-package", "torch", "--unsafe-package", "pip", "-c", str(ROOT / "constraints.txt")]
    _write("service", wanted, without_torch)
    _write("build", BUILD_TOOLS, ["--allow-unsafe"])


def _write(name: str, wanted: list[str], options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / f"{name}.in", Path(folder) / f"{name}.txt"
        asked.write_text("\n".join(wanted), encoding="utf-8")
        compiler = [str(TOOLS / "bin/pip-compile"), *OPTIONS, *options, "--output-file", str(found), str(asked)]
        subprocess.run(compiler, check=True)
        lines = [line for line in found.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    head = "# Written by `make lock` for docker/service.Dockerfile.\n"
    (ROOT / f"docker/locks/{name}.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
