"""The page of a request's path names the files that a request enters, and its figures are those of today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLACK = 5
"""Moves that one run may have more than another: a model's result comes before or after the next step."""


def figures(text: str) -> tuple[int, int]:
    """The last `N files, M moves` in `text`."""
    files, moves = re.findall(r"(\d+) files, (\d+) moves", text)[-1]
    return int(files), int(moves)


def test_the_page_of_a_requests_path_is_as_measured() -> None:
    page = (ROOT / "docs/reference/request-path.md").read_text(encoding="utf-8")
    documented = [figures(line) for line in page.splitlines() if line.startswith("| `glassbox`")]

    command = [sys.executable, "-m", "tools.trace_request", "--recipe", "glassbox", "--files"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    whole, without_features, *entered = done.stdout.splitlines()
    paths = [Path(line.split()[1]) for line in entered]

    for measured, (files, moves) in zip(map(figures, (whole, without_features)), documented, strict=True):
        assert measured[0] <= files
        assert measured[1] <= moves + SLACK
    others = [path for path in paths if "features" not in path.parts]
    assert [path for path in others if f"{path.name}`" not in page and f"{path.parent.name}/`" not in page] == []
