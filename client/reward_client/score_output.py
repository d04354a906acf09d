"""Output of `glassbox score`: lines of JSON that can be continued, and tables made from them at the end.

    lines ─▶ append ─▶ OUT.jsonl, or standard output
                    └▶ OUT.csv.partial.jsonl ─▶ write_table ─▶ OUT.csv, or OUT.parquet

A table has the columns of the input, then `reward`, `gold_reward`, `query_type`, `flags`, one per gold model if
there are several, and one per feature.
"""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from reward_client.rows import STANDARD_STREAM, FileError

WRITTEN = ("result", "scored_by")
"""Fields that are added to each row."""

_TABLES = (".csv", ".parquet")
_RESULT_COLUMNS = ("reward", "gold_reward", "flags")
_FEATURE, _GOLD = "feature.", "gold_reward."


def lines_file(target: Path) -> Path:
    """The file of JSON lines that the rows are written to: `target` itself, unless it is a table."""
    return target.with_name(f"{target.name}.partial.jsonl") if is_table(target) else target


def is_table(target: Path) -> bool:
    """Whether `target` is written as a table."""
    return target.suffix in _TABLES


def is_result_column(name: str) -> bool:
    """Whether a table has a column of this name for the result; `query_type` is that of the result too."""
    return name in _RESULT_COLUMNS or name.startswith((_FEATURE, _GOLD))


def encoded(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """`lines` as lines of JSON."""
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()


def opened(target: Path, mode: str) -> FileIO:
    """Open without a buffer, so that a failed write is reported at once."""
    if target == STANDARD_STREAM:
        return FileIO(sys.stdout.fileno(), "wb", closefd=False)
    try:
        return FileIO(target, mode)
    except OSError as exc:
        raise FileError(f"{target} cannot be written: {exc.strerror}") from exc


def append(out: FileIO, content: bytes, target: Path) -> None:
    """Write all of `content`, or restore the file and raise FileError."""
    before, left = out.tell() if out.seekable() else 0, memoryview(content)
    try:
        while left:
            left = left[out.write(left) :]
    except OSError as exc:
        with suppress(OSError):  # a device cannot be truncated
            out.truncate(before)
        raise FileError(
            f"{target} cannot be extended: {exc.strerror}; its lines are complete, and the same command without "
            "--overwrite continues after them"
        ) from exc


def finished(target: Path, rows: Sequence[Mapping[str, Any]], *, skip: bool) -> dict[int, dict[str, Any]]:
    """The complete lines of `target` by the index of their row; removes an incomplete last line.

    Raises FileError when they do not fit `rows`, of which only `skip` allows to leave some out.
    """
    if not target.is_file():  # it does not exist yet, or is a device
        return {}
    content = target.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines: dict[int, dict[str, Any]] = {}
    index = 0
    for number, text in enumerate(content[:whole].split(b"\n")[:-1], 1):
        line = None
        while line is None and index < len(rows):
            line = _result_of(rows[index], text)
            index += 1
            if not skip:
                break
        if line is None:
            raise FileError(
                f"{target}, line {number}, is not a result of scoring this input. Use another output file, or "
                "--overwrite."
            )
        lines[index - 1] = line
    if whole != len(content):
        if not lines:
            raise FileError(f"{target} is not a file of scored items. Use another output file, or --overwrite.")
        with target.open("r+b") as out:
            out.truncate(whole)
    return lines


def _result_of(row: Mapping[str, Any], line: bytes) -> dict[str, Any] | None:
    try:
        scored = json.loads(line)
    except ValueError:
        return None
    if not isinstance(scored, dict) or "result" not in scored or not isinstance(scored.get("scored_by"), dict):
        return None
    return scored if {name: scored[name] for name in scored if name not in WRITTEN} == row else None


# Tables ---------------------------------------------------------------------------------------------------------


def write_table(lines: Path, target: Path) -> None:
    """Write the rows of `lines` as a table, and remove that file. Raises FileError."""
    rows = [_table_row(json.loads(line)) for line in lines.read_text(encoding="utf-8").split("\n") if line]
    try:
        write_rows(rows, target)
    except FileError as exc:
        raise FileError(f"{exc}; the scored rows are in {lines}") from exc
    lines.unlink()


def write_rows(rows: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write `rows` as a table, or as lines of JSON, as the name of `target` states. Raises FileError.

    A file is complete, or does not exist.
    """
    if target == STANDARD_STREAM:
        with opened(target, "wb") as out:
            append(out, encoded(rows), target)
        return
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        _write(rows, target.suffix, unfinished)
        unfinished.replace(target)
    except OSError as exc:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise FileError(f"{target} cannot be written: {exc.strerror}") from exc


def _write(rows: Sequence[Mapping[str, Any]], suffix: str, target: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if suffix == ".csv":
        _write_csv(rows, columns, target)
    elif suffix == ".parquet":
        _write_parquet(rows, columns, target)
    else:
        target.write_bytes(encoded(rows))


def _table_row(line: Mapping[str, Any]) -> dict[str, Any]:
    result = line["result"]
    given = {name: value for name, value in line.items() if name not in WRITTEN}
    scored = {name: result[name] for name in ("reward", "gold_reward", "query_type")}
    flags = {"flags": " ".join(result["flags"])}
    golds = {f"{_GOLD}{name}": score for name, score in result.get("golds", {}).items()}
    return given | scored | flags | golds | {f"{_FEATURE}{k}": value for k, value in result["features"].items()}


def _write_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _write_parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], target: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as exc:
        raise FileError(f"{target}: .parquet files need the package pyarrow: pip install pyarrow") from exc

    def column(values: Sequence[Any]) -> Any:
        """The values, or their JSON if Parquet does not have them: several types, empty objects, large numbers."""
        with suppress(pyarrow.ArrowException, OverflowError):
            if len({type(value) for value in values if value is not None}) <= 1:
                found = pyarrow.array(values)
                parquet.write_table(pyarrow.table({"_": found}), pyarrow.BufferOutputStream())
                return found
        return pyarrow.array([_as_text(value) for value in values])

    cells = {name: column([row.get(name) for row in rows]) for name in columns}
    parquet.write_table(pyarrow.table(cells), target)


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
