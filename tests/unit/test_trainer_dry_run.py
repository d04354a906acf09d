"""`glassbox train --dry-run`: every check of a start, a summary, and nothing started or written."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import pytest

from reward_runs.layout import RunDir
from reward_runs.record import RunRecord
from reward_trainer.cli import main
from reward_trainer.config import make_config
from reward_trainer.hardware import Hardware
from reward_trainer.plan import prepare, run_record
from reward_trainer.service_probe import service_info
from reward_trainer.time_estimate import estimate_time
from tests.live import metric

ROWS = [
    *({"prompt": f"What is thing {n}?"} for n in range(6)),
    *({"prompt": f"Is thing {n} real?", "reference": "Yes, it is."} for n in range(6)),
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A .csv file whose closed-ended prompts have no query type."""
    lines = [f"{row['prompt']},{row.get('reference', '')}" for row in (dict(one) for one in ROWS)]
    path = tmp_path / "prompts.csv"
    path.write_text("\n".join(["prompt,reference", *(line.replace("Yes, it", "Yes it") for line in lines)]))
    return path


class Trainer:
    """The command line, with an URL, a policy and prompts that are right unless others are given."""

    def __init__(self, capsys: pytest.CaptureFixture[str], run_dir: Path, *arguments: str) -> None:
        self._capsys, self._run_dir, self._arguments = capsys, run_dir, arguments

    def dry_run(self, *more: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        given = ["--run-dir", str(self._run_dir), "--dry-run", *self._arguments, *more]
        self._capsys.readouterr()
        status = main(given)
        return status, *self._capsys.readouterr()


@pytest.fixture
def trainer(url: str, policy: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Trainer:
    known = ["--reward-url", url, "--policy", str(policy), "--prompts", str(prompts)]
    return Trainer(capsys, tmp_path / "run", *known, "--query-type-default", "closed_ended")


def facts(printed: str) -> dict[str, str]:
    """The values of the summary by name, those of continued lines joined."""
    found: dict[str, str] = {}
    name = ""
    for line in printed.partition("\n\n")[0].splitlines():
        name = line[:10].strip() or name
        found[name] = f"{found.get(name, '')} {line[12:]}".strip()
    return found


def test_the_summary_says_what_a_run_would_do_and_nothing_is_written(
    trainer: Trainer, tmp_path: Path, url: str
) -> None:
    before = metric(url, "glassbox_items_total")
    status, printed, _ = trainer.dry_run(
        "--preset", "tiny", "--steps", "3", "--recipe-override", "words=wordpunct"
    )
    found = facts(printed)

    assert status == 0
    assert found["run"].endswith("preset tiny: a smoke test, which teaches nothing")
    assert (
        "10 (5 closed_ended, 5 open_ended) for training, of which the run draws 6, each once" in found["prompts"]
    )
    assert "2 (1 closed_ended, 1 open_ended) held out" in found["prompts"]
    assert found["steps"].startswith("3, each with 4 responses (2 prompts × 2) of at most 16 tokens")
    assert "max_response_tokens 16, words wordpunct" in found["recipe"]
    assert "open_ended: " in found["recipe"]
    assert "repetition_penalty^2" in found["recipe"]
    assert found["encoder"].startswith("letters on cpu")
    assert found["gold"].startswith("none: ")
    assert re.search(r"about \d+\.\d [KM]B for .* \d+\.\d [GT]B are free", found["disk"])
    assert "a step: a rough figure, scaled from the demo" in found["time"]
    assert "python -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path" in printed
    assert metric(url, "glassbox_items_total") == before + 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (["--", "--actor.no_such_flag", "0.1"], "OpenRLHF would refuse its command"),
        (["--", "--train.seed", "many"], "argument --train.seed: invalid int value: 'many'"),
        (["--recipe-override", "max_response_tokens=-5"], "max_response_tokens"),
        (["--recipe-override", "max_respons_tokens=5"], "max_respons_tokens"),
        (["--recipe", "glasbox"], "has no recipe 'glasbox'"),
        (["--policy", "/nowhere/policy"], "policy '/nowhere/policy' cannot be loaded: there is no such folder"),
        (["--recipe", "qr-reference"], "is calibrated for encoder facebook/contriever"),
        (["--steps", "0"], "steps"),
        (["--seed", "4294967296"], "seed"),
        (["--run-dir", ""], "run_dir"),
        (["--run-dir", "/dev/null/run"], "/dev/null/run cannot be written: Not a directory"),
        (["--reward-url", ","], "--reward-url is empty"),
    ],
)
def test_what_would_stop_a_run_is_an_error_with_status_2(trainer: Trainer, more: list[str], cause: str) -> None:
    status, printed, error = trainer.dry_run(*more)

    assert status == 2
    assert cause in error
    assert len(error.splitlines()) == 1
    assert printed == ""


@pytest.mark.parametrize("recipe", ["qr", "li-rp-qr", "li", "li-rp", "rer"])
def test_the_ablations_can_be_trained_with_any_encoder(trainer: Trainer, recipe: str) -> None:
    status, printed, error = trainer.dry_run("--recipe", recipe)

    assert (status, error) == (0, "")
    assert facts(printed)["recipe"].startswith(f"{recipe}, hash ")


def test_a_reference_without_a_query_type_is_an_error_that_names_the_option(
    url: str, policy: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ["--reward-url", url, "--policy", str(policy), "--prompts", str(prompts)]
    status, _, error = Trainer(capsys, tmp_path / "run", *known).dry_run()

    assert status == 2
    assert "prompts.csv, line 8: query_type is missing but reference is given" in error
    assert "--query-type-default" in error


def test_a_service_that_is_not_there_is_one_line_at_once(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()
    known = ["--reward-url", f"http://127.0.0.1:{port}", "--policy", str(policy)]
    status, _, error = Trainer(capsys, tmp_path / "run", *known).dry_run()

    assert time.monotonic() - started < 5
    assert status == 2
    assert len(error.splitlines()) == 1
    assert f"no service answers at http://127.0.0.1:{port}" in error
    assert "glassbox serve" in error
    assert "--wait" in error


def test_a_run_directory_that_is_taken_is_an_error(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")

    status, _, error = trainer.dry_run()

    assert status == 2
    assert "already contains a run" in error


def test_a_resumed_run_loads_the_state_of_openrlhf_and_has_fewer_steps_left(
    trainer: Trainer, url: str, policy: Path, prompts: Path, tmp_path: Path
) -> None:
    run, given = RunDir(tmp_path / "run"), {"reward_url": url, "policy": str(policy), "prompts": str(prompts)}
    columns = {"query_type_default": "closed_ended"}
    config = make_config("tiny", {**given, **columns, "run_dir": str(run.path), "steps": 9})
    plan = prepare(config, service_info([url], config.recipe), Hardware(n_gpus=0, n_threads=2))
    run.checkpoint(6).mkdir(parents=True)
    run_record(plan).write(run)

    again = main(["--resume", "--dry-run", "--run-dir", str(run.path)])
    _, started_again, _ = trainer.dry_run("--resume")
    (run.state / "_actor").mkdir(parents=True)
    (run.state / "_actor" / "latest").write_text(
        "global_step4"
    )  # of the state, which may be older than the policy
    status, printed, _ = trainer.dry_run("--resume")
    (run.state / "_actor" / "latest").write_text("")  # the training was killed while it wrote
    damaged, _, error = trainer.dry_run("--resume")

    assert (again, status) == (0, 0)
    assert damaged != 0
    assert "latest is damaged, so OpenRLHF cannot continue" in error
    assert "--ckpt.load_enable" not in started_again
    assert facts(started_again)["steps"].startswith("9, each with")
    assert "--ckpt.load_enable" in printed
    assert facts(printed)["steps"].startswith("9, of which 4 are done, each with")


def test_a_finished_run_is_named_as_such_even_without_a_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "my run")
    config = make_config("tiny", {"reward_url": "http://127.0.0.1:9", "run_dir": str(run.path), "steps": 9})
    run.checkpoint(9).mkdir(parents=True)
    RunRecord.model_validate(config.model_dump(mode="json")).write(run)

    status = main(["--resume", "--dry-run", "--run-dir", str(run.path)])

    printed = capsys.readouterr().out
    assert status == 0
    assert "is finished: all 9 steps are done" in printed
    assert f"glassbox evaluate --run-dir '{run.path}'" in printed
    assert f"--policy '{run.checkpoint(9)}'" in printed
    assert "openrlhf.cli" not in printed


def test_a_resumed_run_whose_service_has_moved_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "run")
    config = make_config("tiny", {"reward_url": "http://127.0.0.1:9", "run_dir": str(run.path)})
    run.path.mkdir()
    RunRecord.model_validate(config.model_dump(mode="json")).write(run)

    for more, hint in (([], True), (["--reward-url", "http://127.0.0.1:7"], False)):
        assert main(["--resume", "--run-dir", str(run.path), *more]) == 1
        error = capsys.readouterr().err
        assert "no service answers" in error
        assert ("name it with --reward-url" in error) == hint


def test_an_earlier_run_with_the_same_settings_gives_the_time(tmp_path: Path) -> None:
    hardware = Hardware(n_gpus=0, n_threads=2)
    config = make_config("demo", {"reward_url": "http://h", "run_dir": str(tmp_path / "new")})
    earlier = RunDir(tmp_path / "earlier")
    earlier.path.mkdir()
    record = {**config.model_dump(mode="json"), "hardware": {"n_gpus": 0, "n_threads": 2}}
    RunRecord.model_validate(record).write(earlier)
    earlier.metrics.write_text(
        "".join(json.dumps({"step": n, "step_s": s}) + "\n" for n, s in enumerate((9.0, 5.0, 4.0)))
    )

    found = estimate_time(config, hardware, 1000, RunDir(config.run_dir))
    other = estimate_time(config.model_copy(update={"max_new_tokens": 9}), hardware, 0, RunDir(config.run_dir))

    assert found.step_s == 5.0
    assert "earlier" in found.describe(12)
    assert found.describe(12).startswith("about 60 s, 5 s a step")
    assert other.step_s is None
    assert other.describe(12).startswith("unknown: ")


def test_no_time_is_made_up_for_a_gpu(tmp_path: Path) -> None:
    config = make_config("demo", {"reward_url": "http://h", "run_dir": str(tmp_path / "new")})

    assert estimate_time(config, Hardware(n_gpus=1, n_threads=2), 10**9, RunDir(config.run_dir)).step_s is None
