"""Files of recorded responses: how rows are read, and errors that name line and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reward_evidence.sampling.recorded import read_responses
from reward_runs.errors import DataError
from tests.unit.scoring_server import service_url as service_url  # a fixture
from tests.unit.test_evaluate_sources import write_lines


def test_several_responses_to_a_prompt_are_numbered_in_order(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "prompt": "Why?", "response": "second", "sample": 7},
        {"step": 1, "prompt": "Why?", "response": "first", "sample": 2},
        {"step": 2, "prompt": "Why?", "response": "a"},
        {"step": 2, "prompt": "Why?", "response": "b"},
    ]

    steps = read_responses(write_lines(tmp_path / "r.jsonl", rows))

    assert [[(s.sample, s.response) for s in one.samples] for one in steps] == [
        [(0, "first"), (1, "second")],
        [(0, "a"), (1, "b")],
    ]


def test_other_fields_of_a_row_are_ignored(tmp_path: Path) -> None:
    rows = [{"step": 1, "prompt": "Why?", "response": "So.", "reward": 0.5, "model": "m"}]

    assert len(read_responses(write_lines(tmp_path / "r.jsonl", rows))) == 1


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"prompt": "Why?", "response": "So."}, "line 2: step: Field required"),
        ({"step": -1, "prompt": "Why?", "response": "So."}, "line 2: step"),
        ({"step": "ten", "prompt": "Why?", "response": "So."}, "line 2: step"),
        ({"step": 1, "response": "So."}, "line 2: prompt: Field required"),
        ({"step": 1, "prompt": " ", "response": "So."}, "line 2: prompt: is blank"),
        ({"step": 1, "prompt": "Why?"}, "line 2: response: Field required"),
        ({"step": 1, "prompt": "Why?", "response": 7}, "line 2: response"),
        ({"step": 1, "prompt": "Why?", "response": "So.", "query_type": "both"}, "line 2: query_type"),
        (
            {"step": 1, "prompt": "Why?", "response": "So.", "referense": "It is."},
            "line 2: referense: unknown field",
        ),
        (
            {"step": 1, "prompt": "Why?", "response": "So.", "reference": "It is."},
            "line 2: query_type is missing but reference is given",
        ),
        (
            {"step": 1, "prompt": "Why?", "response": "So.", "query_type": "closed_ended"},
            "line 2: reference: a closed_ended prompt needs one",
        ),
        (
            {"step": 0, "prompt": "Why?", "response": "So.", "prompt_id": "p"},
            "line 2: prompt: differs from line 1",
        ),
        (
            {"step": 0, "prompt": "Who?", "response": "So.", "sample": 3},
            "line 2: sample: only one of this line and line 1",
        ),
        ({"step": True, "prompt": "Why?", "response": "So."}, "line 2: step: Input should be a valid integer"),
        ({"step": "7", "prompt": "Why?", "response": "So."}, "line 2: step: Input should be a valid integer"),
        (
            {"step": 1, "prompt": "Why?", "response": "So.", "sample": True},
            "line 2: sample: Input should be a valid integer",
        ),
        (
            {"step": 1, "prompt": "Why?", "response": "So.", "sample": "7"},
            "line 2: sample: Input should be a valid integer",
        ),
        ({"step": 5, "prompt": "When?", "response": "So."}, "step 0 has no response to 1 of 2 prompts"),
        (["Why?"], "line 2: an object is required"),
    ],
)
def test_an_invalid_row_is_an_error_that_names_line_and_field(tmp_path: Path, row: Any, named: str) -> None:
    first = {"step": 0, "prompt": "Who?", "response": "I."} | ({"prompt_id": "p"} if "prompt_id" in row else {})

    with pytest.raises(DataError, match=named):
        read_responses(write_lines(tmp_path / "r.jsonl", [first, row]))


def test_two_responses_with_the_same_sample_are_an_error_that_names_both_lines(tmp_path: Path) -> None:
    row = {"step": 0, "prompt": "Who?", "response": "I.", "sample": 4}

    with pytest.raises(DataError, match="line 2: sample: same step, prompt and sample as line 1"):
        read_responses(write_lines(tmp_path / "r.jsonl", [row, row]))


def test_a_response_without_sample_after_one_with_it_is_an_error(tmp_path: Path) -> None:
    row = {"step": 0, "prompt": "Who?", "response": "I."}

    with pytest.raises(DataError, match="line 2: sample: only one of this line and line 1 has it"):
        read_responses(write_lines(tmp_path / "r.jsonl", [{**row, "sample": 4}, row]))


@pytest.mark.parametrize(("text", "named"), [("", "contains no responses"), ("{", "line 1: not valid JSON")])
def test_a_file_without_responses_is_an_error(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "r.jsonl").write_text(text)

    with pytest.raises(DataError, match=named):
        read_responses(tmp_path / "r.jsonl")
