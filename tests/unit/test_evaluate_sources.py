"""Evaluations without a run directory: any folder of checkpoints, and recorded responses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reward_evidence.evaluate import main
from reward_runs.checkpoints import find_checkpoints, step_of
from reward_runs.errors import RunDirectoryError
from tests.unit.evidence_run import make_checkpoint
from tests.unit.scoring_server import service_url as service_url  # a fixture
from tests.unit.tiny_policy import make_tiny_policy

pytestmark = pytest.mark.slow

PROMPTS = [
    {"prompt": f"What is {word}?", "query_type": "closed_ended", "reference": f"It is {word}."}
    for word in ("rain", "salt", "wool")
] + [{"prompt": f"Why {word}?", "query_type": "open_ended"} for word in ("rivers", "hills", "a")]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# -- a folder of checkpoints


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("000010", 10),
        ("step-000010", 10),
        ("checkpoint-10", 10),
        ("global_step_10", 10),
        ("global_step10_hf", 10),
        ("llama-7b-step10", 10),
        ("iter_10", 10),
        ("final", None),
        ("llama-7b", None),
        ("step-1-iter-2", None),
    ],
)
def test_the_step_is_read_from_the_name_of_a_checkpoint(name: str, step: int | None) -> None:
    assert step_of(name) == step


def test_checkpoints_are_ordered_by_step_and_other_folders_ignored(tmp_path: Path) -> None:
    for step in (10, 9, 100):
        make_checkpoint(tmp_path / f"checkpoint-{step}", step)
    (tmp_path / "logs-3").mkdir()
    make_checkpoint(tmp_path / ".step-4.tmp", 4)

    assert [checkpoint.step for checkpoint in find_checkpoints(tmp_path)] == [9, 10, 100]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no sub-folder with a Hugging Face model"),
        (["step-1", "final"], "the step cannot be read from the name 'final'"),
        (["step-1", "checkpoint-1"], "are both checkpoints of step 1"),
        (["."], "name its parent folder"),
    ],
)
def test_an_unusable_folder_is_an_error_that_names_the_checkpoint(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        make_checkpoint(tmp_path / "models" / name, 1)
    (tmp_path / "models").mkdir(exist_ok=True)

    with pytest.raises(RunDirectoryError, match=message):
        find_checkpoints(tmp_path / "models")


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints as another trainer names them, without a run directory."""
    folder = tmp_path_factory.mktemp("outputs")
    make_tiny_policy(folder / "checkpoint-0", seed=0)
    make_tiny_policy(folder / "checkpoint-50", seed=1)
    return folder


def evaluate(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_folder_of_checkpoints_is_evaluated_and_reported(
    policies: Path, tmp_path: Path, service_url: str
) -> None:
    out, prompts = tmp_path / "results", write_lines(tmp_path / "prompts.jsonl", PROMPTS)

    status = evaluate(
        *("--checkpoints", policies, "--prompts", prompts, "--reward-url", service_url, "--out", out),
        *("--max-new-tokens", 8, "--device", "cpu"),
    )

    assert status == 0
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["source"] == "checkpoints"
    assert [checkpoint["step"] for checkpoint in evaluation["checkpoints"]] == [0, 50]
    assert evaluation["checkpoints"][1]["kl"]["mean"] > 0
    assert evaluation["settings"]["recipe"] == "rer"
    assert evaluation["verdict"]["sentence"].startswith("On 6 prompts, ")
    for name in ("report.html", "plots/gold_by_step.png", "alpaca_eval.json", "evaluation/000050.jsonl"):
        assert (out / name).is_file()
    assert sorted(path.name for path in policies.iterdir()) == ["checkpoint-0", "checkpoint-50"]


def test_without_a_step_0_the_report_states_that_kl_is_not_available(
    policies: Path, tmp_path: Path, service_url: str
) -> None:
    later = tmp_path / "models" / "step-50"
    shutil.copytree(policies / "checkpoint-50", later)
    prompts = write_lines(tmp_path / "prompts.jsonl", PROMPTS)
    common = ("--checkpoints", tmp_path / "models", "--prompts", prompts, "--reward-url", service_url)
    settings = ("--out", tmp_path / "results", "--max-new-tokens", 4, "--device", "cpu")

    assert evaluate(*common, *settings) == 0

    evaluation = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    assert evaluation["checkpoints"][0]["kl"] is None
    assert "KL divergence is not available" in (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert evaluate(*common, *settings, "--kl") == 1


# -- recorded responses


def response_rows(steps: tuple[int, ...] = (0, 10, 20)) -> list[dict[str, Any]]:
    """One response per step and prompt, longer at later steps."""
    return [
        {"step": step, **prompt, "response": f"Because of the rain {'and the rivers ' * (step // 10)}{index}."}
        for step in steps
        for index, prompt in enumerate(PROMPTS)
    ]


def test_recorded_responses_are_evaluated_without_loading_a_policy(tmp_path: Path, service_url: str) -> None:
    responses, out = write_lines(tmp_path / "responses.jsonl", response_rows()), tmp_path / "results"
    arguments = ["--responses", str(responses), "--reward-url", service_url, "--out", str(out)]
    program = (
        "import sys; from reward_evidence.evaluate import main; status = main(sys.argv[1:])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert [checkpoint["step"] for checkpoint in evaluation["checkpoints"]] == [0, 10, 20]
    assert evaluation["trend"]["words_change"]["verdict"] == "rose"
    assert evaluation["query_types"].keys() == {"open_ended", "closed_ended"}
    assert "at temperature" not in evaluation["verdict"]["sentence"]


def test_what_a_file_of_responses_does_not_contain_is_stated_and_not_a_number(
    tmp_path: Path, service_url: str
) -> None:
    responses, out = write_lines(tmp_path / "responses.jsonl", response_rows()), tmp_path / "results"

    assert evaluate("--responses", responses, "--reward-url", service_url, "--out", out) == 0

    page = (out / "report.html").read_text(encoding="utf-8")
    last = json.loads((out / "evaluation.json").read_text())["checkpoints"][-1]
    assert (last["kl"], last["n_tokens"], last["truncated"]) == (None, None, None)
    assert "KL divergence, response length in tokens and truncation are not available" in page
    assert "KL, nats" not in page
    assert "<th>tokens</th>" not in page
    assert "held-out prompts" not in page


def test_changed_responses_are_scored_again_and_others_reused(
    tmp_path: Path, service_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = response_rows(), tmp_path / "results"
    path = write_lines(tmp_path / "responses.jsonl", rows)
    assert evaluate("--responses", path, "--reward-url", service_url, "--out", out) == 0
    capsys.readouterr()

    rows[-1]["response"] = "Another response."
    write_lines(path, rows)

    assert evaluate("--responses", path, "--reward-url", service_url, "--out", out) == 0
    assert "2 of 3 checkpoints are evaluated already" in capsys.readouterr().out


def test_with_another_system_prompt_recorded_responses_are_scored_again(
    tmp_path: Path, service_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_lines(tmp_path / "responses.jsonl", response_rows((0, 10))), tmp_path / "results"
    command = ("--responses", path, "--reward-url", service_url, "--out", out)
    assert evaluate(*command, "--system-prompt", "Answer briefly.") == 0
    capsys.readouterr()

    assert evaluate(*command, "--system-prompt", "Answer at length.") == 0
    assert "evaluated already" not in capsys.readouterr().out

    assert evaluate(*command, "--system-prompt", "Answer at length.") == 0
    assert "2 of 2 checkpoints are evaluated already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "stated"),
    [
        ((), "On 6 prompts, one response each, "),
        (((0, 0), (0, 0)), "On 6 prompts, 1 to 3 responses each, "),
        (((10, 5),), "On 6 prompts, 1 to 2 responses each, "),
        (tuple((step, index) for step in (0, 10) for index in range(6)), "On 6 prompts, 2 responses each, "),
    ],
)
def test_the_verdict_states_how_many_responses_each_prompt_has(
    tmp_path: Path, service_url: str, more: tuple[tuple[int, int], ...], stated: str
) -> None:
    rows = response_rows((0, 10)) + [
        {"step": step, **PROMPTS[index], "response": "Another response."} for step, index in more
    ]
    path, out = write_lines(tmp_path / "responses.jsonl", rows), tmp_path / "results"

    assert evaluate("--responses", path, "--reward-url", service_url, "--out", out) == 0

    assert json.loads((out / "evaluation.json").read_text())["verdict"]["sentence"].startswith(stated)


# -- options


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--responses", "r.jsonl"], "--responses needs --out"),
        (["--checkpoints", "models"], "--checkpoints needs --out"),
        (["--responses", "r.jsonl", "--out", "o", "--temperature", "1"], "--temperature cannot be combined with"),
        (["--responses", "r.jsonl", "--out", "o", "--no-kl"], "--kl cannot be combined with --responses"),
        (["--run-dir", "runs/x", "--recipe", "li"], "--recipe cannot be combined with --run-dir"),
        (
            ["--run-dir", "runs/x", "--recipe-override", "a=1"],
            "--recipe-override cannot be combined with --run-dir",
        ),
        (["--responses", "nowhere.jsonl", "--out", "o"], "nowhere.jsonl cannot be read"),
    ],
)
def test_options_that_do_not_apply_are_an_error(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "one of the arguments --run-dir --checkpoints --responses is required"),
        (["--run-dir", "a", "--responses", "b"], "not allowed with argument --run-dir"),
        (["--run-dir", "a", "--checkpoints", "0,12"], "select steps with --steps 0,12"),
    ],
)
def test_exactly_one_source_is_required(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert error in capsys.readouterr().err
