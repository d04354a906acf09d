"""The columns of a data set, if the configuration names a file of JSON lines that is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from reward_client.doctor.check import Check, failed, note, ok
from reward_client.doctor.config_file import Config

_DATA = (
    r"(data\.(train_files|prompt_dataset|train_data)|(trl\.)?dataset(_name|_path)?|prompt_data|datasets\.0\.path)"
)
"""Settings that may name a file of prompts."""
_PROMPTS = ("prompt", "messages", "input", "question", "query", "responses_create_params")
_LINE_BYTES = 1024 * 1024
_SHOWN_CHARS = 80
"""Of a path that is not read."""


def check_columns(config: Config) -> Iterator[Check]:
    """The columns of the data set, if the configuration names a JSONL file that is here."""
    for values in config.matching(_DATA).values():
        for value in values:
            try:
                path = next((p for p in (Path(value), config.path.parent / value) if p.is_file()), None)
                if path is not None and path.suffix in (".jsonl", ".json"):
                    yield from _first_row(path)
            except OSError as exc:
                yield note("columns", f"{value[:_SHOWN_CHARS]} is not read: {exc.strerror or exc}")


def _first_row(path: Path) -> Iterator[Check]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(_LINE_BYTES)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return
    if not isinstance(row, dict):
        return
    reference, query_type = "reference", "query_type"
    if not set(_PROMPTS) & row.keys():
        yield note("columns", f"{path.name} has {', '.join(row)}: no prompt by a usual name")
    if reference in row and query_type not in row:
        found = f"{path.name} has references and no query_type: all of them count as closed_ended"
        yield note("columns", found, "add a column query_type, or set GLASSBOX_QUERY_TYPE_DEFAULT=open_ended")
    elif query_type in row and reference not in row:
        found = f"{path.name} has query_type and no reference"
        yield failed("columns", found, "add the column, or name it: GLASSBOX_REFERENCE_COLUMN=answer")
    elif reference not in row:
        near = [name for name in ("answer", "solution", "ground_truth", "label", "target") if name in row]
        fix = f"if {near[0]} is the reference: export GLASSBOX_REFERENCE_COLUMN={near[0]}" if near else ""
        yield note("columns", f"{path.name} has no column reference: every item is open-ended", fix)
    else:
        yield ok("columns", f"{path.name} has reference and query_type")
