"""What `glassbox evaluate` needs installed: recorded responses are evaluated without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.scoring_server import service_url as service_url  # a fixture
from tests.unit.test_evaluate_sources import response_rows, write_lines

pytestmark = pytest.mark.slow


WITHOUT_MODULES = """
import sys
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MODULES else PathFinder.find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from reward_client.cli.main import main

point = EntryPoint("evidence", "reward_evidence.commands:COMMANDS", "glassbox.commands")
sys.exit(main(sys.argv[1:], [point]))
"""


def glassbox_without(*modules: str, argv: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
    """Run `glassbox` in an interpreter that does not find `modules`."""
    program, arguments = f"MODULES = {modules!r}\n{WITHOUT_MODULES}", [str(argument) for argument in argv]
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_recorded_responses_are_evaluated_without_torch_and_transformers(tmp_path: Path, service_url: str) -> None:
    responses, out = write_lines(tmp_path / "responses.jsonl", response_rows()), tmp_path / "results"

    done = glassbox_without(
        "torch",
        "transformers",
        argv=("evaluate", "--responses", responses, "--reward-url", service_url, "--out", out),
    )

    assert done.returncode == 0, done.stderr
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_without_the_packages_that_sample_checkpoints_are_not_evaluated(tmp_path: Path, module: str) -> None:
    done = glassbox_without(module, argv=("evaluate", "--checkpoints", tmp_path, "--out", tmp_path / "results"))

    expected = f"glassbox evaluate needs {module}, which is not installed: install glassbox-reward[train]\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_without_numpy_the_command_names_its_extra() -> None:
    done = glassbox_without("numpy", argv=("evaluate", "--help"))

    expected = "glassbox evaluate needs numpy, which is not installed: install glassbox-reward[train]\n"
    assert (done.returncode, done.stderr) == (2, expected)
