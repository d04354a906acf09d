"""`python -m reward_service`: command line options, and errors that prevent the start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reward_client.cli.command import new_parser
from reward_service.__main__ import configure, main, read_settings
from reward_service.errors import ConfigurationError
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
        assert (f"--{name.replace('_', '-')} " in shown) == (name not in {"api_key", "gold_api_key"})


@pytest.mark.parametrize(
    "argv",
    [["--api-key", "sesame"], ["--api-key=sesame"], ["--api-key"], ["--gold-api-key", "sesame"]],
)
def test_an_api_key_on_the_command_line_is_rejected_and_not_printed(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(argv)

    message = capsys.readouterr().err
    assert f"GLASSBOX_{argv[0].partition('=')[0].strip('-').replace('-', '_').upper()}" in message
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


def test_each_wrong_setting_is_one_sentence_with_its_option_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_PORT", "99999")

    with pytest.raises(ConfigurationError) as caught:
        parse_arguments(["--max-items", "many", "--precision", "fp8", "--root-path", "x"])

    assert sorted(str(caught.value).splitlines()) == [
        "--max-items (GLASSBOX_MAX_ITEMS) is 'many', which cannot be used: it must be a valid integer",
        "--port (GLASSBOX_PORT) is '99999', which cannot be used: it must be less than or equal to 65535",
        "--precision (GLASSBOX_PRECISION) is 'fp8', which cannot be used: it must be 'fp32', 'bf16' or 'fp16'",
        "--root-path (GLASSBOX_ROOT_PATH) is 'x', which cannot be used: it must match pattern "
        "'^(/[A-Za-z0-9._~-]+)*$'",
    ]


def test_the_value_of_a_key_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(api_key=["hush"])

    assert "GLASSBOX_API_KEY" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_an_encoder_is_no_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--encoder", "http://127.0.0.1:9/encoder"]) == 1
    assert "--encoder http://127.0.0.1:9/encoder: there is no such folder" in capsys.readouterr().err
