"""Data files as they are written by hand, by pandas and by editors; shared by the command line and the trainer."""

from __future__ import annotations

import csv
import gzip
import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from reward_client.rows import FileError, read_rows
from reward_evidence.sampling.recorded import read_responses
from reward_runs.errors import DataError
from reward_runs.prompts import Columns, load_prompts

BOM = "\ufeff"


def read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    return read_rows(path, lambda fields, number: (number, fields))


def written(tmp_path: Path, text: str, name: str = "in.jsonl") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (f'{BOM}{{"a": 1}}\n', [(1, {"a": 1})]),
        ('\n{"a": 1}\n  \n\r\n{"a": 2}\r\n\n', [(2, {"a": 1}), (5, {"a": 2})]),
        ('{"a": "one\u2028two\u0085three"}', [(1, {"a": "one\u2028two\u0085three"})]),
        ('{"a": NaN, "b": [NaN], "c": 1e308}\n', [(1, {"a": None, "b": [None], "c": 1e308})]),
        ('{"a": "\\ud83d\\ude00"}\n', [(1, {"a": "😀"})]),
    ],
    ids=["byte order mark", "blank lines", "unicode line ends", "not a number", "surrogate pair"],
)
def test_rows_have_the_numbers_of_their_lines(tmp_path: Path, text: str, rows: list[Any]) -> None:
    assert read(written(tmp_path, text)) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (f"{BOM}a,b\n1,\n", [(2, {"a": "1", "b": None})]),
        ("response,b\n,1\n", [(2, {"response": "", "b": "1"})]),
        ('a,b\r\n"x\r\ny",2\r\n\r\n"p ""q""",4', [(2, {"a": "x\r\ny", "b": "2"}), (5, {"a": 'p "q"', "b": "4"})]),
        (f"a\n{'x' * 200_000}\n", [(2, {"a": "x" * 200_000})]),
        ("a\none\u2028two\n", [(2, {"a": "one\u2028two"})]),
    ],
    ids=["empty cell", "empty response", "quoted line ends", "long cell", "unicode line end"],
)
def test_a_csv_file_has_a_header_and_rows_at_their_lines(tmp_path: Path, text: str, rows: list[Any]) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(text.encode())

    assert read(path) == rows


def test_reading_a_csv_file_does_not_lower_the_limit_of_other_readers(tmp_path: Path) -> None:
    before = csv.field_size_limit()

    read(written(tmp_path, "prompt,response\na,b\n", "in.csv"))

    assert csv.field_size_limit() >= before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1\n1,2\n1,2,3\n", r"line 2: has 1 cells, the header has 2\n.*line 4: has 3 cells"),
        ("a,a\n1,2\n", "line 1: two columns have the same name"),
        ('a\n"open\n', "line 2: unexpected end of data"),
        ("a,b\n", "has no rows"),
    ],
)
def test_a_wrong_csv_file_is_an_error_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read(written(tmp_path, text, "in.csv"))


def test_cells_of_a_parquet_file_are_values_of_json(tmp_path: Path) -> None:
    cells = {"a": [date(2026, 1, 2)], "b": [Decimal("1.5")], "c": [float("nan")], "d": [[{"x": 1}]], "e": [2.5]}
    parquet.write_table(pyarrow.table(cells), tmp_path / "in.parquet")

    assert read(tmp_path / "in.parquet") == [
        (1, {"a": "2026-01-02", "b": "1.5", "c": None, "d": [{"x": 1}], "e": 2.5})
    ]


def test_a_number_that_json_does_not_have_is_an_error_of_its_row(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"a": [1.0, float("inf")]}), tmp_path / "in.parquet")

    with pytest.raises(FileError, match="row 2: Infinity is not a JSON number"):
        read(tmp_path / "in.parquet")


def test_a_file_that_is_no_parquet_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"in\.parquet cannot be read"):
        read(written(tmp_path, "{}", "in.parquet"))


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', f'{BOM}[{{"a": 1}},\n{{"a": 2}}]\n'])
def test_a_json_file_is_one_list(tmp_path: Path, text: str) -> None:
    assert read(written(tmp_path, text, "in.json")) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "an object is required, not list"),
        ('{"a": 1, "b": 2, "a": 3}', "a: the field is repeated"),
        ('{"x": {"a": 1, "a": 3}}', "a: the field is repeated"),
        ('{"a": Infinity}', "Infinity is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": "cut \\ud83d"}', "contains an unpaired surrogate"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_every_wrong_row_is_reported_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, f'{{"a": 1}}\n\n{line}\n{{"a": 2}}\n{line}\n')

    with pytest.raises(FileError) as refused:
        read(path)

    lines = str(refused.value).split("\n")
    assert [text.startswith(f"{path}, line {number}: ") for text, number in zip(lines, (3, 5), strict=True)]
    assert all(message in text for text in lines)


def test_many_wrong_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"line 20: .*\nand 30 more$"):
        read(written(tmp_path, "{\n" * 50))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"\n \n", "has no rows"),
        (b"\xff\xfe{\x00", "it is UTF-16 text; save it as UTF-8"),
        (gzip.compress(b"{}"), "it is compressed; decompress it with gunzip first"),
        (b"PK\x03\x04\xff", "is a workbook or a zip archive; save its rows as"),
        (b"PAR1\xff", "its name must end in .parquet"),
        ("é".encode("latin-1"), "is not UTF-8 text: unexpected end of data at byte 0; save it as UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_rows_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "in.jsonl"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(FileError, match=rf"in\.jsonl .*{re.escape(message)}"):
        read(path)


# The trainer ----------------------------------------------------------------------------------------------------


def prompts_of(path: Path) -> list[tuple[str, Any]]:
    return [(prompt.id, prompt.reference) for prompt in load_prompts(str(path), Columns())]


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.json"])
def test_prompts_may_have_a_byte_order_mark_and_ids_that_are_numbers(tmp_path: Path, name: str) -> None:
    rows = [{"id": number, "prompt": f"What is {number} plus one?"} for number in range(3)]
    text = json.dumps(rows) if name.endswith(".json") else "\n\n".join(map(json.dumps, rows))

    assert prompts_of(written(tmp_path, BOM + text, name)) == [("0", None), ("1", None), ("2", None)]


@pytest.mark.parametrize(
    ("reference", "read_as"),
    [
        (5, "5"),
        (0, "0"),
        (0.5, "0.5"),
        (False, "false"),
        ("Paris", "Paris"),
        (["Paris"], "Paris"),
        (["Paris", "", None, 7], ["Paris", "7"]),
    ],
)
def test_references_of_prompts_may_be_numbers_and_lists(tmp_path: Path, reference: Any, read_as: Any) -> None:
    row = {"id": "a", "prompt": "Which?", "query_type": "closed_ended", "reference": reference}

    assert prompts_of(written(tmp_path, json.dumps(row))) == [("a", read_as)]


@pytest.mark.parametrize("reference", [None, "", " ", [], [None], [""]])
def test_a_closed_ended_prompt_needs_a_reference_with_text(tmp_path: Path, reference: Any) -> None:
    row = {"prompt": "Which?", "query_type": "closed_ended", "reference": reference}

    with pytest.raises(DataError, match="line 1: reference: a closed_ended prompt needs one"):
        prompts_of(written(tmp_path, json.dumps(row)))


@pytest.mark.parametrize("reference", ["null", "NaN", '""', "[]"])
def test_an_open_ended_prompt_needs_no_query_type_when_its_reference_is_missing(
    tmp_path: Path, reference: str
) -> None:
    assert prompts_of(written(tmp_path, f'{{"prompt": "Why?", "reference": {reference}}}')) == [("1", None)]


def test_recorded_responses_are_read_in_the_same_way(tmp_path: Path) -> None:
    rows = [
        {
            "step": 0,
            "prompt": "2 + 2?",
            "response": "4",
            "reference": 4,
            "query_type": "closed_ended",
            "prompt_id": 0,
        },
        {
            "step": 1,
            "prompt": "2 + 2?",
            "response": "5",
            "reference": 4,
            "query_type": "closed_ended",
            "prompt_id": 0,
        },
    ]
    path = written(tmp_path, BOM + "\n\n".join(map(json.dumps, rows)))

    first, _ = read_responses(path)

    assert (first.samples[0].prompt.id, first.samples[0].prompt.reference) == ("0", "4")


def test_binary_cells_of_a_parquet_file_are_text_or_an_error(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["Größe?".encode()]}), good)
    parquet.write_table(pyarrow.table({"prompt": [b"ok", b"\xff"]}), bad)

    assert read(good) == [(1, {"prompt": "Größe?"})]
    with pytest.raises(FileError, match="row 2: has a binary value that is not UTF-8 text"):
        read(bad)
