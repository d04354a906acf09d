"""`python -m tools.trace_request` counts the files that a request goes through."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_files_and_moves_of_a_request_are_counted() -> None:
    command = [sys.executable, "-m", "tools.trace_request", "--files"]
    figures, *files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    found = re.fullmatch(r"(\d+) files, (\d+) moves", figures)
    assert found is not None
    assert int(found[1]) == len(files)
    assert int(found[2]) == sum(int(line.split()[0]) for line in files)
    assert any("protocols/score.py" in line for line in files)
