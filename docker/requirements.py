"""Write the requirements of an image: python requirements.py torch | service | train

    pyproject.toml ──▶ the base dependencies and those of an extra, one per line
    constraints.txt ─▶ one pinned package, `torch==…`, when the name is a package

The versions come from `pip install -c constraints.txt`. An image installs this list before it copies the code, so
that a change of the code does not rebuild that layer.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(project: str, constraints: str, name: str) -> list[str]:
    """Return the requirements of the extra `name`, or the pin of the package `name`; else raise SystemExit."""
    tables = tomllib.loads(project)["project"]
    if name in tables["optional-dependencies"]:
        return [*tables["dependencies"], *tables["optional-dependencies"][name]]
    pins = [line.strip() for line in constraints.splitlines() if line.lower().startswith(f"{name.lower()}==")]
    if not pins:
        raise SystemExit(f"{name} is neither an extra in pyproject.toml nor pinned in constraints.txt")
    return pins


if __name__ == "__main__":
    folder = Path(__file__).parent
    project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    constraints = (folder / "constraints.txt").read_text(encoding="utf-8")
    for requested in sys.argv[1:]:
        sys.stdout.writelines(f"{line}\n" for line in requirements(project, constraints, requested))
