"""Environments of the contract tests: complete, and chosen by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
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


NEEDED = "{}.{}".format(*sys.version_info)
"""The version of this Python, which is always found."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder of an environment `a`, installed: its Python is this one."""
    python = tmp_path / "a" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    stamp = Environment("a", NEEDED, (), ()).stamp()
    (tmp_path / "a" / "packages.txt").write_text(stamp, encoding="utf-8")
    return tmp_path


def run_contract(
    folder: Path, source: str, *absent: str, names: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a test file with `source` in `a`, and environments whose Python is absent."""
    file = folder / "test_one.py"
    file.write_text(f"import pytest\n{source}", encoding="utf-8")
    code = f"""
from argparse import Namespace
from tools.frameworks import Environment, run_all
found = [Environment("a", {NEEDED!r}, (), ({str(file)!r},))] if {bool(source)} else []
absent = [Environment(name, "3.99", (name + "==1",), ("test_x.py",)) for name in {absent!r}]
options = Namespace(delete=False, lock=False, build=False, names={list(names)!r})
raise SystemExit(run_all([*found, *absent], options))
"""
    variables = os.environ | {"GLASSBOX_FRAMEWORKS_DIR": str(folder), "CI": "true"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)


PASSES = "def test_passes(): pass\n"


@pytest.mark.parametrize(
    ("source", "status", "note"),
    [
        (PASSES, 0, "1 passed, 0 failed, 0 skipped"),
        (f"{PASSES}def test_skips(): pytest.skip('no')\n", 0, "1 passed, 0 failed, 1 skipped"),
        ("def test_skips(): pytest.skip('no')\n", 1, "no test passed"),
        ("pytest.importorskip('no_such_framework')\n", 1, "no test passed"),
        ("x = 1\n", 1, "no test passed"),
        ("def test_fails(): assert False\n", 1, "0 passed, 1 failed"),
        (
            f"import atexit, os\natexit.register(os._exit, 3)\n{PASSES}",
            1,
            "pytest ended with status 3, after its report",
        ),
    ],
    ids=["passes", "skips one", "skips all", "no framework", "no tests", "fails", "fails after its report"],
)
def test_a_file_without_a_test_that_passed_has_failed(
    installed: Path, source: str, status: int, note: str
) -> None:
    done = run_contract(installed, source)

    assert note in done.stdout, done.stdout + done.stderr
    assert done.returncode == status


def test_an_environment_without_its_python_is_named_at_the_end(installed: Path) -> None:
    done = run_contract(installed, PASSES, "tunix", "gym")

    assert done.stdout.splitlines()[-2:] == [
        "NOT RUN: tunix (tunix==1): there is no Python 3.99",
        "NOT RUN: gym (gym==1): there is no Python 3.99",
    ]
    assert done.returncode == 0


def test_an_environment_that_was_asked_for_by_name_and_is_not_run_has_failed(installed: Path) -> None:
    assert run_contract(installed, PASSES, "tunix", names=["a", "tunix"]).returncode == 1
    assert run_contract(installed, PASSES, names=["a"]).returncode == 0


def test_a_run_of_nothing_has_failed(tmp_path: Path) -> None:
    assert run_contract(tmp_path, "", "tunix").returncode == 1
