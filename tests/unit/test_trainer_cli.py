"""The trainer's command line: help with examples, and errors in one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "trainer" / "run.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, text=True, check=False)


def test_help_shows_examples_and_only_settings_that_exist() -> None:
    printed = run("--help").stdout

    assert "examples:" in printed
    assert "--resume --run-dir runs/NAME" in printed
    options = {word.strip(",") for word in printed.split() if word.startswith("--") and len(word) > 2}
    assert {"--reward-url", "--preset", "--no-gold", "--dry-run"} <= options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--reward-url is missing"),
        (["--resume"], "--resume needs --run-dir"),
        (["--resume", "--run-dir", "nowhere"], "nowhere is not a run directory: config.json is missing"),
        (["--reward-url", "here"], "reward_url"),
        (["--reward-url", "http://key:a@x,http://key:b@y"], "different keys"),
        (["--reward-url", "http://127.0.0.1:9", "--steps", "0"], "steps"),
    ],
)
def test_invalid_usage_is_an_error_without_a_traceback(arguments: list[str], message: str) -> None:
    done = run(*arguments)

    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_abbreviated_options_are_an_error() -> None:
    assert run("--reward", "http://127.0.0.1:9").returncode == 2
