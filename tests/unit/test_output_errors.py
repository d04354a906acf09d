"""What cannot be written ends every command in the same way: one line with file, cause and next step, status 2."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reward_client.cli.main import main
from reward_client.writing import OutputError, check_writable, next_step, writing
from reward_runs.events import RunEvent, add_event
from reward_runs.layout import RunDir, StepMetrics
from tests.unit.evidence_run import evaluated, make_run
from tests.unit.scoring_server import service_url as scoring_url  # noqa: F401 (fixture)


def failing(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that ends with status 2."""
    capsys.readouterr()
    status = main(argv)
    error = capsys.readouterr().err.splitlines()[-1]

    assert status == 2
    assert error.startswith(f"glassbox {argv[0]}: error: ")
    return error


# -- the sentence


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, "free space on that disk"),
        (errno.EACCES, "chmod"),
        (errno.EROFS, "write to another disk"),
        (errno.ENOENT, "create the folder /some"),
        (errno.EISDIR, "name a file"),
        (errno.EIO, "check that disk"),
    ],
)
def test_each_cause_has_its_next_step(number: int, step: str) -> None:
    with (
        pytest.raises(OutputError, match=rf"^/some/file cannot be written: .+; .*{step}"),
        writing(Path("/some/file")),
    ):
        raise OSError(number, os.strerror(number))
    assert step in next_step(Path("/some/file"), OSError(number, ""))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("nowhere/x", "No such file or directory"),
        ("folder", "Is a directory"),
        ("file/x", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("read-only/x", "Permission denied"),
    ],
)
def test_a_file_that_cannot_be_written_is_known_before_the_work(name: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "read-only").mkdir(mode=0o500)
    if name.startswith("read-only") and os.access(tmp_path / "read-only", os.W_OK):
        pytest.skip("this user may write everywhere")

    with pytest.raises(OutputError, match=cause):
        check_writable(tmp_path / name)
    check_writable(tmp_path / "new")
    check_writable(tmp_path / "file")


# -- the files of a run


def to_full_disk(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")


def test_an_event_on_a_full_disk(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    to_full_disk(run.events)

    with pytest.raises(OutputError, match=r"events\.jsonl cannot be written: No space left on device; free space"):
        add_event(run, RunEvent(kind="warning", step=1, message="m"))


def test_the_metrics_of_a_run_whose_folder_has_vanished(tmp_path: Path) -> None:
    metrics = StepMetrics(RunDir(tmp_path / "gone").metrics)

    with pytest.raises(OutputError, match=r"metrics\.jsonl cannot be written: No such file"):
        metrics.add({"step": 1})


@pytest.mark.parametrize(
    "obstacle", ["data", "data/train.jsonl/x", "config.json/x", "freeze.txt/x", "checkpoints", "openrlhf.log/x"]
)
def test_every_write_before_a_training(
    obstacle: str, url: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where a folder is needed, or a folder where a file is: as on a full disk, the write fails."""
    path = tmp_path / "run" / obstacle
    path.parent.mkdir(parents=True)
    path.touch()
    if obstacle.startswith("config"):
        path.parent.rename(tmp_path / "kept")  # a run directory that is taken would be another error
        (tmp_path / "run").rmdir()
        (tmp_path / "run").touch()

    argv = ["train", "--reward-url", url, "--policy", str(policy), "--run-dir", str(tmp_path / "run"), "--preset"]
    error = failing([*argv, "tiny"], capsys)

    assert f"{tmp_path / 'run'}" in error
    assert " cannot be written: " in error


# -- the other commands


@pytest.mark.parametrize(
    "argv",
    [
        ["report", "--run-dir", "RUN"],
        ["study", "demo", "--out", "OUT/s"],
        ["best-of-n", "--reward-url", "FAKE", "--samples-file", "FILE", "--out", "OUT/b"],
        ["evaluate", "--responses", "FILE", "--reward-url", "FAKE", "--out", "OUT/e"],
        ["score", "FILE", "OUT/scored.jsonl", "--url", "URL"],
        ["score", "FILE", "OUT/scored.csv", "--url", "URL"],
        ["annotate", "FILE", "OUT/annotated.jsonl"],
        ["calibrate", "FILE", "OUT/recipe.yaml"],
        ["probe", "--url", "URL", "--json", "OUT/probe.json"],
        ["diff", "FILE", "--recipe", "rer", "--recipe", "li", "--html", "OUT/diff.html"],
        ["fit-gold", "--preferences", "PAIRS", "--out", "OUT/gold", "--work", "OUT/work"],
        ["engineer", "FILE", "--url", "URL", "--out", "OUT/engineered"],
    ],
    ids=lambda argv: f"{argv[0]}-{Path(argv[-1]).suffix}",
)
def test_every_command(
    argv: list[str],
    scoring_url: str,  # noqa: F811
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / ("run/plots" if argv[0] == "report" else "out")
    run = make_run(tmp_path / "run", steps=(0, 4), n_prompts=10)
    if argv[0] == "report":
        evaluated(run)
    out.touch()  # where a folder is needed
    responses, pairs = tmp_path / "in.jsonl", tmp_path / "pairs.jsonl"
    rows = [
        {"step": 0, "prompt": f"Why {n}?", "response": "Because." * s, "gold": s} for n in (1, 2) for s in (1, 2)
    ]
    responses.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs.write_text(json.dumps({"prompt": "p", "chosen": "a b", "rejected": "c"}) + "\n")
    named = {"FAKE": scoring_url, "URL": url, "FILE": str(responses), "PAIRS": str(pairs), "RUN": str(run)}

    error = failing([named.get(part, part.replace("OUT", str(out))) for part in argv], capsys)

    assert str(out) in error
    assert " cannot be written: " in error


# -- standard output


@pytest.mark.parametrize("argv", [["recipes"], ["--help"], ["score", "IN", "-"]])
def test_a_reader_that_has_ended_is_no_traceback(argv: list[str], url: str, tmp_path: Path) -> None:
    rows = tmp_path / "in.jsonl"
    rows.write_text(json.dumps({"prompt": "p", "response": "r"}) + "\n")
    full = [str(rows) if part == "IN" else part for part in argv]
    read, write = os.pipe()
    os.close(read)

    done = subprocess.run(
        [sys.executable, "-m", "reward_client.cli", *full, *(["--url", url] if argv[0] == "score" else [])],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)

    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_full_disk_of_the_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "reward_client.cli", "recipes"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("glassbox recipes: error: the output cannot be used: No space")


def test_what_was_printed_before_a_failed_write_is_complete(url: str, tmp_path: Path) -> None:
    rows = tmp_path / "in.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "p", "response": "r " * n}) + "\n" for n in (1, 2)))
    argv = ["diff", str(rows), "--url", url, "--recipe", "li", "--recipe", "li-rp", "--json", "/dev/full"]

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    done = subprocess.run(
        [sys.executable, "-m", "reward_client.cli", *argv],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip

    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "li-rp" in done.stdout


def test_a_command_with_a_closed_standard_output_succeeds() -> None:
    command = f'"{sys.executable}" -m reward_client.cli recipes >&-'

    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S602

    assert (done.returncode, done.stderr) == (0, "")
