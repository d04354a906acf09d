"""runs/index.html: all runs of a folder with their verdicts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reward_evidence.report.index import update_index
from reward_evidence.report.write import main, write_report
from reward_runs.events import RunEvent, add_event
from reward_runs.layout import RunDir
from tests.unit.evidence_run import config, evaluated, make_run
from tests.unit.test_report import Elements


def described(path: Path, **fields: object) -> None:
    (path / "config.json").write_text(json.dumps(config(path) | fields))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run, one that was not evaluated, and a broken one."""
    runs = tmp_path / "runs"
    done, new, broken = (make_run(runs / name, steps=(0, 4), n_prompts=10) for name in ("a b", "new", "broken"))
    evaluated(done)
    write_report(done)
    described(done, note="<b>the first</b>", tags=["baseline", "length"], steps=8)
    (broken / "config.json").write_text("{")
    add_event(RunDir(new), RunEvent(kind="stop", step=3, rule="kl>1", message="kl>1: kl is 2"))
    (runs / "notes").mkdir()
    for age, run in enumerate((new, done, broken)):
        os.utime(run / "config.json", (1_000 - age, 1_000 - age))
    return runs


def test_the_page_lists_the_runs_with_their_verdicts(runs: Path) -> None:
    assert main(["--index", str(runs)]) == 0
    page = (runs / "index.html").read_text()

    evaluation = json.loads((runs / "a b" / "evaluation.json").read_text())
    assert evaluation["verdict"]["headline"] in page.replace("\u00a0", " ")
    assert [link["href"] for link in Elements(page).all("a")] == ["a%20b/report.html"]
    assert page.index(">new<") < page.index(">a b<") < page.index(">broken<"), "the newest first"
    assert "Not evaluated yet." in page
    assert "not valid JSON" in page
    assert "Stopped by a rule: kl&gt;1: kl is 2" in page
    assert "step 4 of 8" in page


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", b"[1]\n"),
        ("metrics.jsonl", b'{"loss": 1}\n'),
        ("metrics.jsonl", b"\xff\n"),
        ("evaluation.json", b"\xff"),
        ("evaluation.json", b"{}"),
    ],
)
def test_a_broken_file_is_named_in_its_row_and_the_others_are_listed(
    runs: Path, name: str, content: bytes
) -> None:
    (runs / "new" / name).write_bytes(content)

    assert main(["--index", str(runs)]) == 0
    page = (runs / "index.html").read_text()
    assert f"{runs / 'new' / name} " in page
    assert ">a b<" in page


def test_notes_and_tags_are_text(runs: Path) -> None:
    main(["--index", str(runs)])
    page = (runs / "index.html").read_text()

    assert "&lt;b&gt;the first&lt;/b&gt;" in page
    assert page.count('<span class="tag">') == 2
    assert not Elements(page).all("script")


def test_a_page_of_another_origin_is_never_replaced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "index.html").write_text("mine")
    update_index(runs)

    assert main(["--index", str(runs)]) == 1
    assert "was not written by this command" in capsys.readouterr().err
    assert (runs / "index.html").read_text() == "mine"


def test_a_run_elsewhere_writes_no_page_beside_itself(tmp_path: Path) -> None:
    make_run(tmp_path / "somewhere" / "run", steps=(0,))
    update_index(tmp_path / "somewhere")

    assert not (tmp_path / "somewhere" / "index.html").exists()


def test_the_page_is_kept_up_to_date_where_it_is_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "experiments"
    make_run(folder / "one", steps=(0,))
    assert main(["--index", str(folder)]) == 0
    make_run(folder / "two", steps=(0,))
    update_index(folder)

    assert ">two<" in (folder / "index.html").read_text()


def test_a_folder_without_runs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--index", str(tmp_path)]) == 1
    assert "contains no runs" in capsys.readouterr().err
