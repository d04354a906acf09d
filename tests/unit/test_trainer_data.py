"""Prompts: every form is read, an error names the row, and held-out prompts are not trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from reward_client.wire import QueryType
from reward_runs.errors import DataError
from reward_runs.prompts import Columns, Prompt, load_prompts
from reward_trainer.training_data import check_overlap, hold_out, label, training_order, training_row

OPEN = {"id": "a", "prompt": "Why?", "query_type": "open_ended"}
CLOSED = {"id": "b", "prompt": "Who wrote Emma?", "query_type": "closed_ended", "reference": "Jane Austen."}


def written(folder: Path, *rows: Any, name: str = "prompts.jsonl") -> str:
    path = folder / name
    text = json.dumps(list(rows)) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return str(path)


def prompts(*texts: str) -> list[Prompt]:
    return [
        Prompt(id=str(number), prompt=text, query_type=QueryType.OPEN_ENDED) for number, text in enumerate(texts)
    ]


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.json"])
def test_files_are_read_with_types_and_references(tmp_path: Path, name: str) -> None:
    loaded = load_prompts(written(tmp_path, OPEN, CLOSED, name=name), Columns())

    assert [prompt.query_type for prompt in loaded] == [QueryType.OPEN_ENDED, QueryType.CLOSED_ENDED]
    assert loaded[1].reference == "Jane Austen."


def test_other_column_names_and_the_spellings_of_published_data_sets_are_accepted(tmp_path: Path) -> None:
    rows = [
        {"input": "Why?", "output": "So.", "qtype": "OPENENDED"},
        {"input": "Who?", "output": "I.", "qtype": "CONSTRAINED"},
    ]

    loaded = load_prompts(written(tmp_path, *rows, name="rows.json"), Columns("input", "output", "qtype"))

    assert [prompt.query_type for prompt in loaded] == [QueryType.OPEN_ENDED, QueryType.CLOSED_ENDED]


def test_the_embedded_prompts_load_and_do_not_overlap() -> None:
    training = load_prompts("embedded", Columns())
    heldout = load_prompts("embedded", Columns(), embedded="heldout")

    check_overlap(training, heldout)
    assert len(heldout) >= 60


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"id": "c", "prompt": "", "query_type": "open_ended"}, "line 2: prompt"),
        ({"id": "c", "prompt": " \n", "query_type": "open_ended"}, "line 2: prompt: is blank"),
        ({"id": "c", "query_type": "open_ended"}, "line 2: prompt"),
        ({"id": "c", "prompt": 7, "query_type": "open_ended"}, "line 2: prompt"),
        ({"id": "c", "prompt": "Who?", "query_type": "closed_ended"}, "line 2: reference"),
        ({"id": "c", "prompt": "Who?", "query_type": "closed_ended", "reference": " "}, "line 2: reference"),
        ({"id": "c", "prompt": "Who?", "query_type": "both"}, "line 2: query_type"),
        (
            {"id": "c", "prompt": "Who?", "reference": "I."},
            "line 2: query_type is missing but reference is given",
        ),
        (["Who?"], "line 2: an object is required"),
        ({"id": "a", "prompt": "Who?", "query_type": "open_ended"}, "id 'a' occurs twice"),
    ],
)
def test_an_invalid_row_is_an_error_that_names_row_and_field(tmp_path: Path, row: Any, named: str) -> None:
    with pytest.raises(DataError, match=named):
        load_prompts(written(tmp_path, OPEN, row), Columns())


def test_a_missing_column_is_an_error_that_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'prompt'; it has 'question'.*--prompt-column"):
        load_prompts(written(tmp_path, {"question": "Why?"}), Columns())


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.jsonl").write_text(text)
    with pytest.raises(DataError, match="contains no prompts"):
        load_prompts(str(tmp_path / "empty.jsonl"), Columns())


@pytest.mark.parametrize("text", ['{"prompt": "Why', "[" * 100_000])
def test_invalid_json_is_an_error_that_names_the_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.jsonl").write_text(json.dumps(OPEN) + "\n" + text)
    with pytest.raises(DataError, match="line 2: not valid JSON"):
        load_prompts(str(tmp_path / "broken.jsonl"), Columns())


def test_a_missing_file_is_an_error_and_not_a_download() -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl cannot be read"):
        load_prompts("nowhere.jsonl", Columns())


def test_equal_texts_are_held_out_together_and_once() -> None:
    training, heldout = hold_out(prompts(*[f"Question {number % 10}?" for number in range(40)]), 8, seed=1)

    check_overlap(training, heldout)
    texts = [prompt.prompt for prompt in heldout]
    assert len(texts) == len(set(texts)) > 0
    assert {prompt.prompt for prompt in [*training, *heldout]} == {f"Question {n}?" for n in range(10)}


def test_too_few_prompts_to_hold_any_out_is_an_error() -> None:
    with pytest.raises(DataError, match="too few"):
        hold_out(prompts("a", "b"), 64, seed=1)


def test_overlap_is_found_despite_case_and_punctuation() -> None:
    with pytest.raises(DataError, match="'0' = '1'"):
        check_overlap(prompts("What?", "Why is that so?"), prompts("why is  that -- so"))


def test_training_uses_every_prompt_before_one_repeats() -> None:
    ordered = training_order(prompts("a", "b", "c"), 7, seed=3)

    assert (
        {prompt.prompt for prompt in ordered[:3]} == {"a", "b", "c"} == {prompt.prompt for prompt in ordered[3:6]}
    )
    assert ordered == training_order(prompts("a", "b", "c"), 7, seed=3)
    assert ordered != training_order(prompts("a", "b", "c"), 7, seed=4)


def test_rows_for_openrlhf_contain_messages_with_a_chat_template_and_text_without() -> None:
    prompt = prompts("Why?")[0]

    assert training_row(prompt, "Be brief.", chat=True)["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ]
    assert training_row(prompt, "Be brief.", chat=False)["input"] == "Be brief.\n\nWhy?"


def test_the_label_is_json_with_type_reference_and_id() -> None:
    prompt = Prompt.model_validate(CLOSED)

    assert json.loads(label(prompt)) == {"query_type": "closed_ended", "reference": "Jane Austen.", "id": "b"}
