"""Option types that several commands share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from reward_client import RewardUnavailableError
from reward_client.cli import options
from reward_client.cli.main import main
from tests.unit.client_server import Answer, answering


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (options.positive_int, "0", "0 is less than 1"),
        (options.positive_int, "many", "'many' is not a whole number"),
        (options.positive_float, "-1", "-1 is not a number above 0"),
        (options.positive_float, "inf", "inf is not a number above 0"),
        (options.positive_float, "soon", "'soon' is not a number"),
        (options.url, "localhost", "'localhost' is not the URL of a reward service"),
        (options.url, "http://key:se/cret@host", "'http://host' is not the URL of a reward service"),
    ],
)
def test_an_option_with_a_bad_value_is_an_error_that_explains_it(kind: object, text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message) as caught:
        kind(text)  # type: ignore[operator]
    assert "cret" not in str(caught.value)


def test_key_value_options_are_json_or_text_and_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", action=options.KeyValue, nargs="+")

    parsed = parser.parse_args(["--set", "a=1", "b=[0, 1.5]", "--set", "c=text", "d=null", "e=x=y"]).set

    assert parsed == {"a": 1, "b": [0, 1.5], "c": "text", "d": None, "e": "x=y"}
    with pytest.raises(SystemExit):
        parser.parse_args(["--set", "a"])
    assert "--set takes NAME=VALUE, got 'a'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["score", "in.jsonl", "out.jsonl"], ["calibrate", "in.jsonl", "out.yaml"], ["probe"]]
)
def test_a_service_that_is_not_there_is_one_line_within_seconds(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()

    with pytest.raises(SystemExit) as caught:
        main([*command, "--url", "http://127.0.0.1:9"], [])

    message = str(caught.value)
    assert time.monotonic() - started < 5
    assert message.startswith(f"glassbox {command[0]}: no service answers at http://127.0.0.1:9 (")
    assert message.endswith("start it with `glassbox serve`, or wait for it with --wait 60")
    assert capsys.readouterr().err == ""


def loading(n_requests: int) -> Callable[[str], Answer]:
    """Not ready for the first requests."""
    numbers = count(1)
    return lambda _: (503 if next(numbers) <= n_requests else 200, {}, b"{}")


def test_wait_returns_when_the_service_is_ready() -> None:
    with answering(loading(2)) as url:
        options.connect([url], wait_s=30).close()


def test_wait_ends_with_what_was_seen_when_the_service_is_not_ready_in_time() -> None:
    message = r"is not ready after 0\.\d s \(503 Service Unavailable: .*\): see `glassbox doctor"
    with answering(loading(10**6)) as url, pytest.raises(RewardUnavailableError, match=message):
        options.connect([url], wait_s=0.3)


def test_of_several_services_the_one_that_answers_decides_and_each_is_described() -> None:
    with answering(loading(10**6)) as url, pytest.raises(RewardUnavailableError) as ended:
        options.connect([url, "http://127.0.0.1:9"], wait_s=0.3)

    message = str(ended.value)
    assert message.startswith(f"the service at {url} or http://127.0.0.1:9 is not ready after 0.")
    assert f"{url}: 503 Service Unavailable" in message
    assert "http://127.0.0.1:9: ConnectError" in message


def test_wait_goes_on_when_the_service_asks_for_more_patience_than_there_is() -> None:
    numbers = count(1)
    with answering(lambda _: (503 if next(numbers) == 1 else 200, {"retry-after": "90"}, b"{}")) as url:
        options.connect([url], wait_s=20).close()


def test_without_wait_a_service_whose_models_load_is_there() -> None:
    with answering(loading(10**6)) as url:
        options.connect([url]).close()


def test_the_service_is_that_of_the_environment_unless_an_option_names_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "p", "response": "r"}\n')
    monkeypatch.setenv("GLASSBOX_URL", "http://127.0.0.1:9, http://127.0.0.1:7")
    command = ["score", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]

    both, one = "http://127.0.0.1:9 or http://127.0.0.1:7", "http://127.0.0.1:1"
    for argv, named in ([], both), (["--url", one], one):
        with pytest.raises(SystemExit) as ended:
            main([*command, *argv], [])
        assert f"no service answers at {named} (" in str(ended.value)


@pytest.mark.parametrize("command", [["probe"], ["probe", "--protocol", "openrlhf"], ["datasets", "list"]])
def test_a_wrong_url_of_the_environment_is_one_line_without_its_key(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLASSBOX_URL", "http://127.0.0.1:9,http://key:se/cret@host")

    with pytest.raises(SystemExit) as ended:
        main(command, [])

    message = f"glassbox {command[0]}: GLASSBOX_URL: 'http://host' is not the URL of a reward service"
    assert ended.value.code == message


def test_an_error_begins_on_a_new_line_after_progress(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with options.progress_line() as show:
            show("1/2")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert capsys.readouterr().err == "\r1/2\n"


def test_without_progress_no_line_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with options.progress_line():
        pass

    assert capsys.readouterr().err == ""
