"""`glassbox engineer`: the forms of its input, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reward_client.rows import FileError
from reward_evidence.engineer.rows import Rows, read


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def read_lines(path: Path, *rows: dict[str, Any], needs_gold: bool = True) -> Rows:
    return read([written(path / "rows.jsonl", list(rows))], None, needs_gold=needs_gold)


def golds(rows: Rows) -> list[tuple[str, str, float | None]]:
    return [(row.prompt, row.item.response, row.gold) for row in rows.rows]


def test_rows_of_a_prompt_become_neighbours(tmp_path: Path) -> None:
    found = read_lines(
        tmp_path,
        {"prompt": "p", "response": "a", "gold": 1},
        {"prompt": "q", "response": "a", "gold": 2},
        {"prompt": "p", "response": "b", "gold": "0.5", "other": True},
    )

    assert golds(found) == [("p", "a", 1.0), ("p", "b", 0.5), ("q", "a", 2.0)]


def test_all_responses_to_a_prompt_may_be_in_one_row(tmp_path: Path) -> None:
    found = read_lines(tmp_path, {"prompt": "p", "responses": ["a", ""], "gold": [0.3, -1]})

    assert golds(found) == [("p", "a", 0.3), ("p", "", -1.0)]


def test_the_output_of_score_with_gold_is_input(tmp_path: Path) -> None:
    result = {"reward": 0.2, "gold_reward": 0.7}

    assert golds(read_lines(tmp_path, {"prompt": "p", "response": "a", "result": result})) == [("p", "a", 0.7)]


def test_the_folder_of_an_evaluation_is_input(tmp_path: Path) -> None:
    for step in (0, 8):
        row = {"prompt": "p", "response": f"step {step}", "gold_reward": step, "query_type": "open_ended"}
        written(tmp_path / "run" / "evaluation" / f"{step:06}.jsonl", [row])

    assert golds(read([tmp_path / "run"], None, needs_gold=True)) == [("p", "step 0", 0.0), ("p", "step 8", 8.0)]


def test_a_folder_without_responses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="has no evaluated responses"):
        read([tmp_path], None, needs_gold=True)


def test_a_repeated_response_counts_once_with_the_mean_of_its_gold(tmp_path: Path) -> None:
    row = {"prompt": "p", "response": "a"}
    found = read_lines(tmp_path, row | {"gold": 1}, row | {"gold": 3}, row | {"response": "b", "gold": 5})

    assert golds(found) == [("p", "a", 2.0), ("p", "b", 5.0)]
    assert found.n_merged == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "line 2: gold: is missing; add it, or let the service score with --gold-from-service"),
        ({"gold": True}, "line 2: gold: a finite number is required, not 'True'"),
        ({"gold": "good"}, "line 2: gold: a finite number is required, not 'good'"),
        ({"gold": "inf"}, "line 2: gold: a finite number is required, not 'inf'"),
        ({"gold": [1]}, "line 2: gold: a finite number is required"),
        ({"gold": 10**400}, "line 2: gold: a finite number is required"),
        ({"gold": 1, "response": 7}, "line 2: response: "),
        ({"gold": 1, "reference": "r", "query_type": "closed_ended"}, "line 2: query_type: differs from .*line 1"),
        ({"gold": [1, 2], "responses": ["x"]}, "line 2: gold: has 2 scores, responses has 1"),
        ({"gold": [1], "responses": []}, "line 2: responses: a list of texts is required"),
        ({"gold": ["nan"], "responses": ["x"]}, "line 2: gold.0: a finite number is required"),
    ],
    ids=str,
)
def test_a_wrong_row_is_an_error_that_names_line_and_field(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    good = {"prompt": "p", "response": "a", "gold": 1}

    with pytest.raises(FileError, match=message):
        read_lines(tmp_path, good, {"prompt": "p", "response": "b"} | fields)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_gold_that_is_not_finite_is_an_error(number: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "response": "a", "gold": ' + number + "}\n")

    with pytest.raises(FileError, match="line 1: "):
        read([path], None, needs_gold=True)


def test_scores_of_two_golds_for_one_prompt_are_an_error(tmp_path: Path) -> None:
    rows = ({"prompt": "p", "response": "a", "gold": 1}, {"prompt": "p", "response": "b"})

    with pytest.raises(FileError, match="scores of two gold models cannot be compared"):
        read_lines(tmp_path, *rows, needs_gold=False)


def test_csv_is_input(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,response,gold\np,a,1\np,b,2.5\n")

    assert golds(read([path], None, needs_gold=True)) == [("p", "a", 1.0), ("p", "b", 2.5)]
