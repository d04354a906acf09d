"""`glassbox score` and tables with several gold models: every score is written, the primary one is named."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from reward_client import RewardClient
from reward_client.rows import FileError
from reward_client.score_file import score_file
from reward_client.score_output import write_table
from reward_client.score_summary import Summary
from reward_client.tables.columns import ScoreColumns
from tests.api.test_several_golds import ITEMS, Service


@contextmanager
def client_of(service: Service) -> Iterator[RewardClient]:
    with service.client() as inner:

        def forward(request: httpx.Request) -> httpx.Response:
            reply = inner.request(
                request.method, request.url.path, content=request.content, headers=dict(request.headers)
            )
            return httpx.Response(reply.status_code, content=reply.content)

        with RewardClient("http://localhost", transport=httpx.MockTransport(forward)) as client:
            yield client


@pytest.fixture
def client() -> Iterator[RewardClient]:
    with client_of(Service("a,b")) as both:
        yield both


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ITEMS))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_and_summary_have_the_scores_of_all(client: RewardClient, source: Path, tmp_path: Path) -> None:
    summary = Summary()
    for progress in score_file(client, source, tmp_path / "out.jsonl", gold=True):
        summary.add(progress)

    assert [line["result"]["golds"] for line in lines(tmp_path / "out.jsonl")] == [
        {"a": 0.3, "b": -0.3},
        {"a": 0.7, "b": -0.7},
    ]
    assert lines(tmp_path / "out.jsonl")[0]["scored_by"]["models"]["golds"] == {"a": "a-1", "b": "b-1"}
    assert [line for line in str(summary).splitlines() if "gold reward" in line] == [
        "  mean gold reward of a, the primary gold model: 0.5000",
        "  mean gold reward of b: -0.5000",
    ]


def test_a_table_has_a_column_for_each(client: RewardClient, source: Path, tmp_path: Path) -> None:
    list(score_file(client, source, tmp_path / "out.csv.partial.jsonl", gold=True))
    write_table(tmp_path / "out.csv.partial.jsonl", tmp_path / "out.csv")

    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["gold_reward"], row["gold_reward.a"], row["gold_reward.b"]) for row in rows] == [
        ("0.3", "0.3", "-0.3"),
        ("0.7", "0.7", "-0.7"),
    ]


def test_an_input_with_such_a_column_is_refused_for_a_table(client: RewardClient, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ITEMS[0] | {"gold_reward.a": 1}))

    with pytest.raises(FileError, match=r"gold_reward\.a: this command writes a field of that name"):
        list(score_file(client, source, tmp_path / "out.csv", gold=True, as_table=True))


def test_columns_of_a_data_frame_have_the_scores_of_all(client: RewardClient) -> None:
    columns = ScoreColumns(1, gold=True)
    columns.set_result(0, client.score(ITEMS[:1], gold=True).results[0])

    assert columns.columns["gold_reward.b"] == [-0.3]


def test_a_file_of_one_gold_model_is_not_continued_with_another_one_beside_it(
    client: RewardClient, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    with client_of(Service("a")) as alone:
        list(score_file(alone, source, target, gold=True, limit=1))

    with pytest.raises(FileError, match=r"with a \(weights a-1\); this run .* with a \(weights a-1\) and b"):
        list(score_file(client, source, target, gold=True))


def test_lines_of_one_gold_model_have_nothing_new(source: Path, tmp_path: Path) -> None:
    """So a file that an earlier release began can be continued."""
    with client_of(Service("a")) as client:
        list(score_file(client, source, tmp_path / "out.jsonl", gold=True))

    (line, _) = lines(tmp_path / "out.jsonl")
    assert "golds" not in line["result"]
    assert "golds" not in line["scored_by"]["models"]
