"""Option types that several commands share."""

from __future__ import annotations

import argparse

import pytest

from reward_client.cli import options


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
