"""`glassbox datasets` and the functions behind it, with a service on a socket."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from reward_client import RewardClient, RewardError
from reward_client.cli.main import main
from reward_client.datasets import list_datasets
from reward_service.settings import Settings
from tests.live import serving

ROWS = """\
{"question": "Why?", "answer": 42}

{"question": "How?", "answer": NaN}
"""
COLUMNS = ["--prompt-column", "question", "--reference-column", "answer"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings()) as url:
        yield url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(ROWS)
    return path


def command(*arguments: object) -> int:
    return main(["datasets", *map(str, arguments)], [])


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message of a command that fails."""
    with pytest.raises(SystemExit) as exc:
        command(*arguments)
    return f"{exc.value}{capsys.readouterr().err}"


def test_a_file_is_uploaded_listed_and_deleted(url: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("put", "train", file, *COLUMNS, "--url", url) == 0
    assert "train: 2 rows, 2 prompts (1 closed_ended, 1 open_ended), 1 with a reference" in capsys.readouterr().out
    command("list", "--url", url)
    assert f"{url}: 1 data set(s)\n  train: 2 rows" in capsys.readouterr().out
    command("delete", "train", "--url", url)

    with RewardClient(url) as client:
        assert list_datasets(client).datasets == []


def test_each_url_gets_the_data_set(url: str, file: Path) -> None:
    with serving(Settings()) as other:
        command("put", "both", file, *COLUMNS, "--url", url, "--url", other)
        for each in (url, other):
            with RewardClient(each) as client:
                assert "both" in [info.name for info in list_datasets(client).datasets]


def test_wrong_rows_are_named_before_anything_is_sent(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('{"question": 1}\n\n{"answer": 1}\n{"question": "a", "answer": {}}\n')

    message = failure(capsys, "put", "train", file, *COLUMNS, "--url", "http://127.0.0.1:1")

    assert f"{file}, line 1: question: must be text or a list of messages" in message
    assert f"{file}, line 3: question: is missing; the columns are answer" in message
    assert f"{file}, line 4: answer: must be text, a number, or a list of them" in message


def test_rows_that_the_service_refuses_are_named_by_line_and_column(
    url: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f'{ROWS}\n{{"question": "Why? ", "answer": 43}}')

    message = failure(capsys, "put", "train", file, *COLUMNS, "--url", url)

    assert "line 5.question: is the prompt of line 1 too, with another reference" in message
    assert command("put", "train", file, *COLUMNS, "--duplicates", "join", "--url", url) == 0


def test_a_data_set_that_does_not_exist_is_an_error(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no data set 'none'" in failure(capsys, "delete", "none", "--url", url)


def test_rows_of_the_hub_are_uploaded(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[object] = []

    def load_dataset(*arguments: object, split: str) -> list[dict[str, object]]:
        loaded.extend([*arguments, split])
        return [{"question": "Why?", "answer": float("nan"), "id": 1}, {"question": "How?", "answer": "so"}]

    package = ModuleType("datasets")
    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)

    command("put", "hub", "--hub", "lab/rows", "--hub-config", "main", "--split", "test", *COLUMNS, "--url", url)

    assert loaded == ["lab/rows", "main", "test"]
    assert "hub: 2 rows, 2 prompts (1 closed_ended, 1 open_ended)" in capsys.readouterr().out


def test_the_hub_without_its_package_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    assert "pip install datasets" in failure(capsys, "put", "hub", "--hub", "lab/rows")


@pytest.mark.parametrize("arguments", [["put", "train"], ["put", "train", "f", "--hub", "i"], []])
def test_one_source_is_needed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "usage" in failure(capsys, *arguments)


def test_the_wrong_key_is_an_error() -> None:
    with (
        serving(Settings(api_key="sesame-9f27c1d4")) as url,
        RewardClient(url, api_key="other") as client,
        pytest.raises(RewardError, match="401"),
    ):
        list_datasets(client)


def test_a_file_is_scored_with_the_references_of_a_data_set(url: str, file: Path, tmp_path: Path) -> None:
    command("put", "answers", file, *COLUMNS, "--url", url)
    rows, scored = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"prompt": "Why?", "response": "It is 42."}\n{"prompt": "Else?", "response": "No."}\n')
    arguments = ["score", str(rows), str(scored), "--url", url, "--dataset", "answers"]

    with pytest.raises(SystemExit) as refused:
        main(arguments, [])
    assert main([*arguments, "--keep-going", "--dataset-miss", "open_ended"], []) == 0

    assert "line 2: prompt: is not in the data set" in str(refused.value)
    results = [json.loads(line)["result"] for line in scored.read_text().splitlines()]
    assert [result["query_type"] for result in results] == ["closed_ended", "open_ended"]
    assert ["dataset_hit" in result["flags"] for result in results] == [True, False]


def test_prompts_that_are_not_in_the_data_set_are_counted_over_all_requests(
    url: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("put", "counted", file, *COLUMNS, "--url", url)
    rows = tmp_path / "in.jsonl"
    prompts = ("Why?", "Else?", "Other?", "Why?", "More?")
    rows.write_text("".join(json.dumps({"prompt": prompt, "response": "Yes."}) + "\n" for prompt in prompts))

    arguments = ["score", str(rows), str(tmp_path / "out.jsonl"), "--url", url, "--dataset", "counted"]
    main([*arguments, "--dataset-miss", "open_ended", "--batch", "2"], [])

    notes = [line for line in capsys.readouterr().err.splitlines() if "in the data set" in line]
    assert notes == ["  note: 3 of 5 prompts are not in the data set 'counted'"]


@pytest.mark.parametrize("with_references", [[0], [0, 1]])
def test_a_file_is_not_continued_without_its_data_set(
    url: str, file: Path, tmp_path: Path, with_references: list[int]
) -> None:
    """Not even if its first rows have references of their own, so that their rewards are the same."""
    command("put", "needed", file, *COLUMNS, "--url", url)
    items: list[dict[str, object]] = [{"prompt": "Why?", "response": f"It is {n}."} for n in range(4)]
    for index in with_references:
        items[index] |= {"reference": "42", "query_type": "closed_ended"}
    rows, scored = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps(item) + "\n" for item in items))
    arguments = ["score", str(rows), str(scored), "--url", url]
    main([*arguments, "--dataset", "needed"], [])
    scored.write_text("".join(scored.read_text().splitlines(keepends=True)[:3]))

    with pytest.raises(SystemExit, match=r"as closed_ended, dataset_hit, and now the reward .* as open_ended\."):
        main(arguments, [])


def test_what_a_miss_is_needs_a_data_set(url: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--dataset-miss needs --dataset NAME"):
        main(["score", str(file), str(tmp_path / "out.jsonl"), "--url", url, "--dataset-miss", "fail"], [])
