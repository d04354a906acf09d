"""Environments of the contract tests: complete, and chosen by name."""

from __future__ import annotations

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
