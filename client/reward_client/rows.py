"""Rows of data files: .jsonl (or any other ending), .json, .csv, .parquet, or JSON lines on standard input.

    read_rows(path, make) ─▶ blank lines and a byte order mark skipped ─▶ make(fields, number) of each row

NaN, which pandas writes where a value is missing, and an empty cell of a table are read as null; an empty cell of
the column `response` is an empty response. Binary cells of a .parquet file are UTF-8 text. All wrong rows are
reported in one error, each with its line in the file. The command line and the trainer read their files with
this module.
"""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from reward_client.errors import validation_errors

MAX_REPORTED = 20
"""Wrong rows that an error lists; it counts the others."""

STANDARD_STREAM = Path("-")
"""Standard input or output in place of a file; its rows are lines of JSON."""

_RESPONSE = "response"
"""Column of a .csv file whose empty cells are empty responses, which are scored; in others they are null."""

_OTHER_FORMATS = {
    b"\x1f\x8b": "it is compressed; decompress it with gunzip first",
    b"PK\x03\x04": "it is a workbook or a zip archive; save its rows as .csv or .jsonl",
    b"PAR1": "it is a Parquet file; its name must end in .parquet",
    b"\xff\xfe": "it is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "it is UTF-16 text; save it as UTF-8",
}
"""First bytes of files that are given by mistake."""

_OTHER_SEPARATORS = {"\t": "tabs", ";": "semicolons"}

RowT = TypeVar("RowT")
NumberedRow = tuple[int, Any]
"""Number of a row, from 1, and its value, or the ValueError why it has none."""


class FileError(Exception):
    """A file cannot be used; the message names the line and the field."""


def read_rows(path: Path, make: Callable[[dict[str, Any], int], RowT]) -> list[RowT]:
    """What `make` returns for each row of the file and its number; its ValueError says what is wrong with the row.

    Raises FileError.
    """
    rows = checked_rows(str(path), numbered_rows(path), make, unit=row_unit(path))
    if not rows:
        raise FileError(f"{path} has no rows")
    return rows


def checked_rows(
    source: str,
    rows: Iterable[NumberedRow],
    make: Callable[[dict[str, Any], int], RowT],
    *,
    unit: str = "row",
) -> list[RowT]:
    """As `read_rows`, for numbered rows of any source; `unit` is what a message calls one."""
    made, wrong = sorted_out(source, rows, make, unit=unit)
    if wrong:
        raise FileError(first_of(wrong))
    return made


def sorted_out(
    source: str,
    rows: Iterable[NumberedRow],
    make: Callable[[dict[str, Any], int], RowT],
    *,
    unit: str = "row",
) -> tuple[list[RowT], list[str]]:
    """What `make` returns for each row that is right, and a message for each that is wrong."""
    made, wrong = [], []
    for number, row in rows:
        try:
            made.append(make(_fields(row), number))
        except ValidationError as exc:
            wrong.append(f"{source}, {unit} {number}: {'; '.join(validation_errors(exc))}")
        except ValueError as exc:
            wrong.append(f"{source}, {unit} {number}: {exc}")
    return made, wrong


def first_of(messages: list[str]) -> str:
    """The first messages, a line each, and the number of the others."""
    more = [f"and {len(messages) - MAX_REPORTED} more"] if len(messages) > MAX_REPORTED else []
    return "\n".join([*messages[:MAX_REPORTED], *more])


def _fields(row: Any) -> dict[str, Any]:
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"an object is required, not {type(row).__name__}")  # noqa: TRY004 - as other wrong rows
    return row


def numbered_rows(path: Path) -> Iterator[NumberedRow]:
    """The rows of a file that are not blank. Raises FileError when it cannot be read."""
    if path.suffix == ".parquet":
        yield from enumerate(_parquet_rows(path), 1)
        return
    text = _read_text(path)
    if path.suffix == ".csv":
        yield from _csv_rows(path, text)
        return
    if path.suffix == ".json":
        rows = _parsed(text)
        if not isinstance(rows, list):
            cause = rows if isinstance(rows, ValueError) else "a .json file must be a list of objects"
            raise FileError(f"{path}: {cause}; use .jsonl for one object per line")
        yield from enumerate(rows, 1)
        return
    yield from numbered_lines(text)


def numbered_lines(text: str) -> Iterator[NumberedRow]:
    """The rows of JSON lines that are not blank."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _parsed(line)


def row_unit(path: Path) -> str:
    """What a message calls a row of the file."""
    return "row" if path.suffix in (".json", ".parquet") else "line"


def none_for_nan(value: Any) -> Any:
    """None for NaN, which pandas writes where a value is missing; any other value as it is."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv_rows(path: Path, text: str) -> Iterator[NumberedRow]:
    """The rows below the header, each with the line that it begins in."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # of the process: other readers share it
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise FileError(f"{path}, line 1: two columns have the same name")
        if len(header) == 1 and (other := next(filter(header[0].__contains__, _OTHER_SEPARATORS), None)):
            raise FileError(f"{path}, line 1: columns are separated by {_OTHER_SEPARATORS[other]}; use commas")
        number = reader.line_num + 1
        for cells in reader:
            if cells:
                yield number, _table_row(header, cells)
            number = reader.line_num + 1
    except csv.Error as exc:
        raise FileError(f"{path}, line {reader.line_num}: {exc}") from exc


def _table_row(header: list[str], cells: list[str]) -> dict[str, str | None] | ValueError:
    if len(cells) != len(header):
        return ValueError(f"has {len(cells)} cells, the header has {len(header)}")
    return {name: cell if name == _RESPONSE else cell or None for name, cell in zip(header, cells, strict=True)}


def _parquet_rows(path: Path) -> list[Any]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as exc:
        raise FileError(f"{path}: .parquet files need the package pyarrow: pip install pyarrow") from exc
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ValueError, TypeError, NotImplementedError) as exc:  # pyarrow's errors are of these types
        first, *_ = str(exc).split("\n")
        raise FileError(f"{path} cannot be read: {first}") from exc
    return [_json_row(row) for row in rows]


def _json_row(row: Any) -> Any:
    """The row with values of JSON: dates and decimals as text, NaN as null; or the ValueError why not."""
    try:
        return _parsed(json.dumps(row, default=_text))
    except UnicodeDecodeError:
        return ValueError("has a binary value that is not UTF-8 text")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_text(path: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if path == STANDARD_STREAM else path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        known = next((hint for start, hint in _OTHER_FORMATS.items() if content.startswith(start)), None)
        found = known or f"{exc.reason} at byte {exc.start}; save it as UTF-8"
        raise FileError(f"{path} is not UTF-8 text: {found}") from exc
    except OSError as exc:
        raise FileError(f"{path} cannot be read: {exc.strerror}") from exc


def _parsed(text: str) -> Any:
    """The value of `text`, or the ValueError why it has none."""
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return ValueError("contains an unpaired surrogate, which is not valid Unicode text")
    except json.JSONDecodeError as exc:
        return ValueError(f"not valid JSON: {exc.msg} at character {exc.pos + 1}")
    except RecursionError:
        return ValueError("not valid JSON: nested too deeply")
    except ValueError as exc:
        return exc
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice}: the field is repeated")
    return fields


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is not a JSON number")


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"the number {text[:40]}… has more than {_MAX_DIGITS} digits")
    return int(text)


_MAX_DIGITS = 4000
"""Of a whole number; Python reads no longer ones from text."""
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_number, parse_int=_integer
)
