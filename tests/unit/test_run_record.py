"""`config.json`: one class writes and reads it, and older versions are migrated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reward_runs.errors import RunDirectoryError
from reward_runs.layout import RunDir
from reward_runs.record import SCHEMA_VERSION, RunRecord
from tests.unit.evidence_run import config


def written(folder: Path, content: Any) -> RunDir:
    run = RunDir(folder)
    run.config.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return run


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = RunRecord.model_validate({**config(tmp_path), "learning_rate": 1e-5, "steps": 12})
    run = RunDir(tmp_path)
    record.write(run)

    assert RunRecord.read(run).model_dump() == record.model_dump()
    assert json.loads(run.config.read_text())["schema_version"] == SCHEMA_VERSION
    assert RunRecord.read(run).content()["learning_rate"] == 1e-5


def test_a_run_of_release_0_1_0_has_no_version_and_is_read(tmp_path: Path) -> None:
    stored = config(tmp_path)
    assert "schema_version" not in stored

    record = RunRecord.read(written(tmp_path, stored))

    assert record.schema_version == SCHEMA_VERSION
    assert record.content() == {**stored, "schema_version": SCHEMA_VERSION}


def test_a_newer_version_is_an_error_that_names_both_versions_and_the_remedy(tmp_path: Path) -> None:
    run = written(tmp_path, {**config(tmp_path), "schema_version": SCHEMA_VERSION + 6})

    with pytest.raises(RunDirectoryError) as caught:
        RunRecord.read(run)

    message = str(caught.value)
    assert f"schema_version {SCHEMA_VERSION + 6}" in message
    assert f"reads versions up to {SCHEMA_VERSION}" in message
    assert "upgrade glassbox-reward" in message


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"recipe": ', "not valid JSON"),
        ([1], "not a JSON object"),
        ({"recipe": "rer"}, "max_new_tokens"),
        ({"recipe": "rer", "max_new_tokens": 8, "recipe_overrides": 1}, "recipe_overrides"),
        ({"recipe": "rer", "max_new_tokens": 8, "schema_version": "one"}, "schema_version"),
    ],
)
def test_an_invalid_record_is_an_error_that_names_file_and_field(tmp_path: Path, content: Any, named: str) -> None:
    with pytest.raises(RunDirectoryError, match=rf"config\.json.*{named}"):
        RunRecord.read(written(tmp_path, content))


def test_a_folder_without_a_record_is_not_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        RunRecord.read(RunDir(tmp_path))
