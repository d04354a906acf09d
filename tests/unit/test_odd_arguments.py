"""Arguments of people who have not read the documentation: one line says what is wrong, and nothing is lost."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from reward_client import RewardClient, RewardError, RewardRejectedError
from reward_client.annotate.rows import read_prompts
from reward_client.cli import options
from reward_client.cli.main import main
from reward_client.urls import Address

ROW = json.dumps({"prompt": "a b", "response": "b a"}) + "\n"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text(ROW * 2)
    return path


def refusal(*argv: object) -> str:
    """The message of a command that ends with status 1."""
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in argv], None)
    return str(ended.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http://", "it has no host"),
        ("http://:80", "it has no host"),
        ("http://host:0", "there is no port 0"),
        ("http://host:99999", "there is no port 99999"),
        ("http://my host", "it contains a blank"),
        ("http://host:8000?dataset=train", "it has options.*GLASSBOX_DATASET"),
        ("http://host:8000/?recipe=rer", "it has options.*GLASSBOX_RECIPE"),
        ("http://host#here", "it has options"),
        ("http://host:1?", "it has options"),
        ("http://key:a%3Fb@host:1/#", "it has options"),
    ],
)
def test_a_url_of_no_server_is_refused(text: str, problem: str) -> None:
    with pytest.raises(RewardError, match=f"is not the URL of a reward service: {problem}"):
        Address.parse(text)


def test_a_url_with_a_route_in_it_is_named_with_the_route(url: str) -> None:
    with RewardClient(f"{url}/score") as client, pytest.raises(RewardRejectedError) as refused:
        client.score([{"prompt": "p", "response": "r"}])

    assert f"404 Not Found: the server has no such route: {url}/score/score" in str(refused.value)


def test_https_for_a_service_without_it_is_named(url: str, rows: Path, tmp_path: Path) -> None:
    message = refusal("score", rows, tmp_path / "out.jsonl", "--url", url.replace("http:", "https:"))

    assert message.endswith("the server there speaks no https; begin the URL with http://")


@pytest.mark.parametrize("option", ["--recipe", "--url"])
def test_an_unset_variable_is_not_the_default(
    option: str, url: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["score", str(rows), str(tmp_path / "out.jsonl"), "--url", url, option, ""]
    with pytest.raises(SystemExit) as ended:
        main(argv, None)

    assert ended.value.code == 2
    assert f"argument {option}: " in capsys.readouterr().err


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="the value is empty"):
        options.file_path("")


@pytest.mark.parametrize("text", ["9" * 30, "9" * 19])
def test_a_whole_number_is_one_that_python_can_count_with(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is too large"):
        options.positive_int(text)


def test_a_value_that_is_nested_too_deeply_is_text() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", action=options.KeyValue, nargs="+")

    assert parser.parse_args(["--set", "a=" + "[" * 100_000]).set["a"][:2] == "[["


@pytest.mark.parametrize("command", [["probe", "--prompts"], ["diff", "--recipe", "rer", "--recipe", "li"]])
@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_report_never_replaces_the_input(command: list[str], option: str, url: str, rows: Path) -> None:
    message = refusal(*command, rows, option, rows, "--url", url)

    assert message == f"glassbox {command[0]}: {rows} is the input; choose another output file"
    assert rows.read_text() == ROW * 2


def test_two_reports_are_two_files(url: str, rows: Path, tmp_path: Path) -> None:
    same = tmp_path / "report"

    assert "name two files" in refusal("probe", "--prompts", rows, "--json", same, "--html", same, "--url", url)
    assert "- is none" in refusal("probe", "--prompts", rows, "--json", "-", "--url", url)


def test_lines_of_json_are_not_written_to_a_file_that_would_be_one_value(
    url: str, rows: Path, tmp_path: Path
) -> None:
    message = refusal("score", rows, tmp_path / "out.json", "--url", url)

    assert message.endswith(f"lines of JSON are written; name the file {tmp_path / 'out.jsonl'}")


def test_annotated_rows_of_a_json_file_can_be_read_again(rows: Path, tmp_path: Path) -> None:
    assert main(["annotate", str(rows), str(tmp_path / "out.json")], None) == 0

    assert [row.prompt for row in read_prompts(tmp_path / "out.json", "prompt", None)] == ["a b", "a b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "prompt;response\na;b\n", "line 1: columns are separated by semicolons; use commas"),
        ("in.csv", "prompt\tresponse\na\tb\n", "line 1: columns are separated by tabs; use commas"),
        ("in.csv", "prompt,response\n", "has no rows"),
        (
            "in.jsonl",
            '{"prompt": "a", "response": "b", "x": ' + "9" * 5000 + "}",
            "line 1: the number 9+… has more than",
        ),
    ],
)
def test_a_file_that_is_almost_right_says_what_is_wrong(
    name: str, content: str, message: str, url: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)

    assert re.search(message, refusal("score", tmp_path / name, tmp_path / "out.jsonl", "--url", url))


@pytest.mark.parametrize("name", ["", "a/b", "..", "../x"])
def test_the_name_of_a_data_set_is_no_path(name: str, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["datasets", "put", name, str(rows), "--url", "http://127.0.0.1:9"], None)

    assert "is not a name of letters, digits" in capsys.readouterr().err
