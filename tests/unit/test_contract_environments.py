"""Environments of the contract tests: complete, and chosen by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.frameworks import Environment, find_python, read_environments, selected

ENVIRONMENTS = [
    Environment("a", "3.11", ("torch==1",), ("test_x.py", "test_y.py")),
    Environment("b", "3.12", (), ("test_z.py",)),
]


def names(*chosen: str) -> dict[str, tuple[str, ...]]:
    return {one.name: one.tests for one in selected(ENVIRONMENTS, chosen)}


def test_every_contract_test_runs_in_an_environment() -> None:
    """A file that no environment names would never run."""
    listed = {file for environment in read_environments() for file in environment.tests}

    assert listed == {path.name for path in (ROOT / "tests/frameworks").glob("test_*.py")}


def test_an_environment_or_a_test_file_is_chosen_by_its_name() -> None:
    assert names() == {"a": ("test_x.py", "test_y.py"), "b": ("test_z.py",)}
    assert names("b") == {"b": ("test_z.py",)}
    assert names("test_y.py") == {"a": ("test_y.py",)}
    with pytest.raises(SystemExit, match="test_q"):
        names("test_q.py")


def test_torch_is_installed_before_packages_that_would_bring_another_build() -> None:
    first, second = ENVIRONMENTS[0].steps()

    assert first[:1] == ["torch==1"]
    assert "torch==1" in second


def test_an_absent_python_is_not_found() -> None:
    assert find_python("3.99") is None


def test_an_environment_that_cannot_be_installed_is_deleted_too(tmp_path: Path) -> None:
    """Its packages would fill the disk."""
    (tmp_path / "a" / "lib").mkdir(parents=True)
    code = """
from argparse import Namespace
from tools.frameworks import Environment, run_environment
options = Namespace(delete=True, lock=False, build=False)
print(run_environment(Environment("a", "3.11", (), ()), "/bin/false", options, {})[0].failed)
"""
    variables = os.environ | {"GLASSBOX_FRAMEWORKS_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.endswith("1\n"), done.stdout
    assert not (tmp_path / "a").exists()
