"""`python -m reward_service`: command line options, and errors that prevent the start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reward_client.cli.command import new_parser
from reward_service.__main__ import configure, read_settings
from reward_service.settings import Settings


def parse_arguments(argv: list[str]) -> Settings:
    parser = new_parser("python -m reward_service")
    configure(parser)
    return read_settings(parser.parse_args(argv))[0]


def test_every_setting_except_the_api_key_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    shown = capsys.readouterr().out

    for name in Settings.model_fields:
        assert (f"--{name.replace('_', '-')} " in shown) == (name != "api_key")


@pytest.mark.parametrize("argv", [["--api-key", "sesame"], ["--api-key=sesame"], ["--api-key"]])
def test_an_api_key_on_the_command_line_is_rejected_and_not_printed(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(argv)

    message = capsys.readouterr().err
    assert "GLASSBOX_API_KEY" in message
    assert "sesame" not in message


@pytest.mark.parametrize(
    ("argv", "allowed"), [([], False), (["--allow-anonymous"], True), (["--allow-anonymous", "false"], False)]
)
def test_a_boolean_option_needs_no_value(argv: list[str], allowed: bool) -> None:
    assert parse_arguments(argv).allow_anonymous is allowed


@pytest.mark.slow
def test_a_public_address_without_a_key_is_an_error_that_names_both_solutions() -> None:
    command = [sys.executable, "-m", "reward_service", "--host", "0.0.0.0", "--port", "0"]  # noqa: S104
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert "GLASSBOX_API_KEY" in done.stderr
    assert "--allow-anonymous" in done.stderr
    assert "Traceback" not in done.stderr
