"""Environment variables of the service: current names, former names, and names that are not known."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules

import pytest

from reward_client import adapters
from reward_client.adapters.settings import AdapterSettings, variable
from reward_service.__main__ import main
from reward_service.environment import read_environment
from reward_service.errors import ConfigurationError
from reward_service.settings import Settings


def test_a_variable_sets_its_setting_and_an_argument_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_MAX_ITEMS", "7")

    assert Settings().max_items == 7
    assert Settings(max_items=8).max_items == 8


def test_a_former_name_is_accepted_with_a_warning_that_names_the_current_one() -> None:
    found = read_environment({"REWARD_MAX_ITEMS": "7"}, Settings.model_fields)

    assert found.values == {"max_items": "7"}
    assert found.warnings == ["REWARD_MAX_ITEMS is called GLASSBOX_MAX_ITEMS now; the former name will be removed"]


def test_the_current_name_wins_over_the_former_one() -> None:
    environ = {"REWARD_MAX_ITEMS": "7", "GLASSBOX_MAX_ITEMS": "8"}

    found = read_environment(environ, Settings.model_fields)

    assert found.values == {"max_items": "8"}
    assert found.warnings == ["REWARD_MAX_ITEMS is ignored, because GLASSBOX_MAX_ITEMS is set"]


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("REWARD_API_KEYS", "GLASSBOX_API_KEYS_FILE"),
        ("GLASSBOX_API_KEYS", "GLASSBOX_API_KEYS_FILE"),
        ("GLASSBOX_MAX_ITEM", "GLASSBOX_MAX_ITEMS"),
        ("GLASSBOX_ENCODR", "GLASSBOX_ENCODER"),
        ("REWARD_XYZ", "docs/reference/settings.md"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest_one(variable: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{variable};.*{named}"):
        read_environment({variable: "x"}, Settings.model_fields)


@pytest.mark.parametrize("variable", ["GLASSBOX_URL", "GLASSBOX_CACHE", "GLASSBOX_TAG", "GLASSBOX_SHARED", "PATH"])
def test_variables_of_other_programs_are_left_alone(variable: str) -> None:
    assert read_environment({variable: "x"}, Settings.model_fields).values == {}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GLASSBOX_PORT", "tcp://10.0.0.1:8000"),
        ("GLASSBOX_METRICS_PORT", "tcp://10.0.0.3:9100"),
        ("GLASSBOX_SERVICE_HOST", "10.0.0.1"),
        ("GLASSBOX_SERVICE_PORT_HTTP", "8000"),
        ("GLASSBOX_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("GLASSBOX_PROXY_PORT", "tcp://10.0.0.2:80"),
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_are_left_alone(variable: str, value: str) -> None:
    assert read_environment({variable: value}, Settings.model_fields).values == {}


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("GLASBOX_API_KEY", "GLASSBOX_API_KEY"),
        ("GLASSBOXAPIKEY", "GLASSBOX_API_KEY"),
        ("GLASSBOX-API-KEY", "GLASSBOX_API_KEY"),
        ("Glass_Box.Api.Key", "GLASSBOX_API_KEY"),
        ("GALSSBOX_API_KEY", "GLASSBOX_API_KEY"),
        (" GLASSBOX_API_KEY", "GLASSBOX_API_KEY"),
        ("GLASSBOX_АPI_KEY", "GLASSBOX_API_KEY"),  # the A is Cyrillic
        ("GLASSBX_API_KEYS_FILE", "GLASSBOX_API_KEYS_FILE"),
        ("GLASBOX_MAX_ITEMS", "GLASSBOX_MAX_ITEMS"),
        ("REWARDAPIKEY", "REWARD_API_KEY"),
        ("REWARD-API-KEY", "REWARD_API_KEY"),
        ("REWARDS_API_KEY", "REWARD_API_KEY"),
    ],
)
def test_a_name_that_is_nearly_ours_is_an_error_that_names_ours(variable: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"unknown environment variable .*{named}"):
        read_environment({variable: "x"}, Settings.model_fields)


def test_a_variable_of_an_adapter_does_not_stop_the_service() -> None:
    modules = [import_module(f"{adapters.__name__}.{found.name}") for found in iter_modules(adapters.__path__)]
    kinds = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    names = {name for kind in kinds if issubclass(kind, AdapterSettings) for name in kind.model_fields}

    assert {"log_features", "recipe"} <= names
    for name in names - Settings.model_fields.keys():
        assert read_environment({variable(name): "x"}, Settings.model_fields).values == {}


@pytest.mark.parametrize(
    "variable",
    [
        "API_KEY",
        "OPENAI_API_KEY",
        "FORWARD_API_KEY",
        "REWARDED",
        "GLASSFISH_PORT",
        "STAGING_GLASSBOX_API_KEY",
        "GLASSBOX",
    ],
)
def test_variables_of_others_with_similar_names_are_left_alone(variable: str) -> None:
    assert read_environment({variable: "x"}, Settings.model_fields).values == {}


def test_a_variable_in_lower_case_is_a_setting_and_one_in_both_cases_must_agree() -> None:
    assert read_environment({"glassbox_api_key": "a"}, Settings.model_fields).values == {"api_key": "a"}
    with pytest.raises(ConfigurationError, match="GLASSBOX_API_KEY is set twice"):
        read_environment({"glassbox_api_key": "a", "GLASSBOX_API_KEY": "b"}, Settings.model_fields)


@pytest.mark.parametrize("prefix", ["GLASSBOX_", "REWARD_"])
@pytest.mark.parametrize("value", ["", " ", "\n"])
@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_value_is_an_error_for_every_setting(name: str, value: str, prefix: str) -> None:
    variable = prefix + name.upper()

    with pytest.raises(ConfigurationError, match=f"{variable} is empty"):
        read_environment({variable: value}, Settings.model_fields)


@pytest.mark.parametrize("name", ["API_KEY", "API_KEYS_FILE"])
def test_an_empty_key_is_an_error_that_says_how_to_serve_without_one(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"leave it out.*GLASSBOX_ALLOW_ANONYMOUS=true"):
        read_environment({f"GLASSBOX_{name}": ""}, Settings.model_fields)


@pytest.mark.parametrize("key", ['"s3cret"', "'s3cret'", "s3cret\n", " s3cret", "s3cret”", "s3 cret"])
def test_a_key_with_quotation_marks_or_white_space_is_an_error_that_does_not_show_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSBOX_API_KEY", key)

    with pytest.raises(ConfigurationError, match="GLASSBOX_API_KEY has") as raised:
        Settings()
    assert "s3" not in str(raised.value)


@pytest.mark.parametrize(
    "argument",
    ["--allow-anonymous=flase", "--allow-anonymous=", "--host=", "--api-keys-file=", "--allow-anonymou"],
)
def test_a_misspelt_or_empty_option_stops_the_start(argument: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["--port", "0", argument])
    except SystemExit as exc:
        status = int(str(exc.code))

    assert status != 0
    assert argument.split("=")[0].removeprefix("--").replace("-", "_") in capfd.readouterr().err.replace("-", "_")


def test_a_port_of_the_metrics_is_a_setting() -> None:
    assert read_environment({"GLASSBOX_METRICS_PORT": "9100"}, Settings.model_fields).values == {
        "metrics_port": "9100"
    }


@pytest.mark.slow
def test_an_unknown_variable_stops_the_start() -> None:
    command = [sys.executable, "-m", "reward_service", "--port", "0"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={"REWARD_API_KEYS": "a", "PYTHONPATH": ":".join(sys.path)},
    )

    assert done.returncode != 0
    assert "GLASSBOX_API_KEYS_FILE" in done.stderr
    assert "Traceback" not in done.stderr
