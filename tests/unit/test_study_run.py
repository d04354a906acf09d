"""A study runs its trainings in child processes: resumed, one failing, several at once, stopped by a signal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from reward_evidence.study.command import run
from reward_evidence.study.errors import StudyError
from reward_evidence.study.planning import plan_runs
from reward_evidence.study.progress import remaining_s
from reward_evidence.study.runner import StudyRunner
from reward_evidence.study.service import reward_service
from reward_evidence.study.spec import Service, Study
from reward_evidence.study.state import RunState, Status, StudyState
from reward_runs.events import RunEvent, add_event
from reward_runs.files import lock_folder
from reward_runs.layout import RunDir
from tests.unit.compared_runs import STEPS, make_evaluated, rising

FAKE_TRAIN = [sys.executable, str(Path(__file__).with_name("fake_train.py"))]
URL = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluated(tmp_path_factory.mktemp("evaluated") / "run", rising(0.1))


@pytest.fixture
def fake(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of the fake trainer; returns the file of its calls."""
    monkeypatch.setenv("FAKE_RUN", str(evaluated))
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "calls"


def calls(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def study_file(tmp_path: Path, text: str = "recipes: [rer, li]\nseeds: [1, 2]\n") -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(f"{text}service: {{url: '{URL}'}}\n", encoding="utf-8")
    return path


def study(tmp_path: Path, *, jobs: int = 1, dry_run: bool = False, text: str | None = None) -> int:
    """Run `glassbox study` with the fake trainer; its exit status."""
    path = study_file(tmp_path, text) if text else study_file(tmp_path)
    options = Namespace(study=str(path), out=tmp_path / "out", jobs=jobs, dry_run=dry_run)
    return run(options, [], train=FAKE_TRAIN)


def state(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))["runs"]
    return found


def test_a_study_trains_every_run_and_compares_them(
    fake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path) == 0

    assert [call["name"] for call in calls(fake)] == ["rer-seed-1", "li-seed-1", "rer-seed-2", "li-seed-2"]
    assert {run["status"] for run in state(tmp_path).values()} == {"finished"}
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "<td>rer-seed-1</td>" in page
    assert "4 of 4 runs finished, 0 failed" in capsys.readouterr().out


def test_a_dry_run_shows_the_commands_and_starts_nothing(
    fake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, dry_run=True) == 0

    printed = capsys.readouterr().out
    assert "4 runs in 2 groups, one at a time" in printed
    assert f"glassbox train --recipe li --seed 2 --run-dir {tmp_path / 'out' / 'runs' / 'li-seed-2'}" in printed
    assert calls(fake) == []
    assert not (tmp_path / "out").exists()


def test_finished_runs_are_kept_when_seeds_are_added(fake: Path, tmp_path: Path) -> None:
    assert study(tmp_path, text="recipes: [rer]\nseeds: [1]\n") == 0

    assert study(tmp_path, text="recipes: [rer]\nseeds: [1, 2]\n") == 0

    assert [call["name"] for call in calls(fake)] == ["rer-seed-1", "rer-seed-2"]


def test_a_failed_run_is_reported_with_its_cause_and_the_others_finish(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_FAIL", "li-seed-1")

    assert study(tmp_path) == 1

    assert state(tmp_path)["li-seed-1"]["status"] == "failed"
    assert sum(run["status"] == "finished" for run in state(tmp_path).values()) == 3
    assert "error: li-seed-1: exit status 1: error: the disk is full; see" in capsys.readouterr().err
    assert (tmp_path / "out" / "comparison.html").is_file()


def test_a_failed_run_is_tried_again(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "li-seed-1")
    study(tmp_path)
    monkeypatch.delenv("FAKE_FAIL")

    assert study(tmp_path) == 0

    assert calls(fake)[-1]["name"] == "li-seed-1"
    assert state(tmp_path)["li-seed-1"]["attempts"] == 2


def test_a_run_that_ends_without_an_evaluation_is_not_finished(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    monkeypatch.setenv("FAKE_RUN", str(empty))

    assert study(tmp_path) == 1

    assert "ended without a complete evaluation" in state(tmp_path)["rer-seed-1"]["cause"]


def test_a_run_that_its_stop_rule_ended_is_no_failure_and_is_compared(
    fake: Path,
    evaluated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped = make_evaluated(tmp_path / "stopped", rising(0.1), record={"steps": 60})
    for step in STEPS:
        RunDir(stopped).checkpoint(step).mkdir(parents=True)
    add_event(RunDir(stopped), RunEvent(kind="stop", step=6, rule="kl>1", message="kl>1: kl is 2"))
    monkeypatch.setenv("FAKE_RUN", str(stopped))
    text = "recipes: [rer]\nseeds: [1, 2]\n"

    assert study(tmp_path, text=text) == 0
    assert study(tmp_path, text=text) == 0

    assert len(calls(fake)) == 2, "it is not trained again"
    found = state(tmp_path)["rer-seed-1"]
    assert (found["status"], found["cause"]) == ("stopped by rule", "kl>1: kl is 2")
    printed = capsys.readouterr().out
    assert "rer-seed-1: stopped by the rule kl>1: kl is 2 after" in printed
    assert "0 of 2 runs finished, 0 failed, 2 stopped by a rule" in printed
    assert "Ended by a stop rule: rer-seed-1: kl>1: kl is 2" in printed


def test_a_stopped_run_that_is_not_evaluated_to_its_end_is_tried_again(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = make_evaluated(tmp_path / "stopped", rising(0.1), record={"steps": 60})
    RunDir(stopped).checkpoint(8).mkdir(parents=True)
    add_event(RunDir(stopped), RunEvent(kind="stop", step=8, rule="kl>1", message="kl>1: kl is 2"))
    monkeypatch.setenv("FAKE_RUN", str(stopped))

    assert study(tmp_path, text="recipes: [rer]\nseeds: [1]\n") == 1

    assert state(tmp_path)["rer-seed-1"]["status"] == "failed"


def test_a_run_that_was_stopped_before_its_first_checkpoint_is_not_compared(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its only evaluation is that of the untrained policy, and the other seeds would be cut to step 0 too."""
    stopped = make_evaluated(tmp_path / "stopped", rising(0.1), steps=(0,), record={"steps": 60})
    RunDir(stopped).checkpoint(0).mkdir(parents=True)
    add_event(RunDir(stopped), RunEvent(kind="stop", step=5, rule="kl>1", message="kl>1: kl is 2"))
    monkeypatch.setenv("FAKE_RUN", str(stopped))

    assert study(tmp_path, text="recipes: [rer]\nseeds: [1]\n") == 1

    assert state(tmp_path)["rer-seed-1"]["status"] == "failed"


def test_a_command_that_does_not_exist_is_a_failed_run(fake: Path, tmp_path: Path) -> None:
    text = "recipes: [rer]\nseeds: [1]\nlauncher: [no-such-launcher]\n"

    assert study(tmp_path, text=text) == 1

    assert (
        state(tmp_path)["rer-seed-1"]["cause"] == "no-such-launcher cannot be started: No such file or directory"
    )


def test_a_launcher_precedes_the_command(fake: Path, tmp_path: Path) -> None:
    assert study(tmp_path, text="recipes: [rer]\nseeds: [1]\nlauncher: [env, CUDA_VISIBLE_DEVICES=7]\n") == 0

    assert calls(fake)[0]["devices"] == "7"


def test_options_of_a_started_run_cannot_change(
    fake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(tmp_path, text="recipes: [rer]\nseeds: [1]\n")

    assert study(tmp_path, text="recipes: [rer]\nseeds: [1]\nsettings: {steps: 9}\n") == 1

    assert "rer-seed-1 was started with other options" in capsys.readouterr().err
    assert len(calls(fake)) == 1


def test_several_runs_have_separate_devices(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

    assert study(tmp_path, jobs=2) == 0

    assert {call["devices"] for call in calls(fake)} == {"0", "1"}


def test_two_studies_cannot_use_one_folder(fake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock_folder(tmp_path / "out"):
        assert study(tmp_path) == 1

    assert "is in use by process" in capsys.readouterr().err


def test_the_remaining_time_is_that_of_finished_runs_for_each_round_of_jobs() -> None:
    def made(status: Status, duration_s: float = 0.0) -> RunState:
        return RunState(status=status, group="rer", options=[], duration_s=duration_s)

    states = [made("finished", 100), made("finished", 200), made("failed", 5), made("running"), made("waiting")]

    assert remaining_s(states, 1) == 300
    assert remaining_s([*states, made("stopped")], 2) == 300
    assert remaining_s(states[2:], 1) is None


# Stopping ------------------------------------------------------------------------------------------------------


def test_a_cancelled_study_stops_every_run_that_is_training(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = [tmp_path / "rer-seed-1", tmp_path / "li-seed-1"]
    for fifo in training:
        os.mkfifo(fifo)
    monkeypatch.setenv("FAKE_HANG", str(tmp_path))
    runs = plan_runs(Study.model_validate({"recipes": ["rer", "li"], "seeds": [1, 2]}))
    of_study = StudyState(tmp_path / "out")
    (tmp_path / "out").mkdir()
    of_study.plan(runs)
    runner = StudyRunner(of_study, URL, lambda _: None, jobs=2, train=FAKE_TRAIN)

    async def cancelled() -> None:
        task = asyncio.create_task(runner.run(runs))
        for fifo in training:
            await asyncio.to_thread(fifo.read_text)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())

    found = state(tmp_path)
    assert [found[name]["status"] for name in ("rer-seed-1", "li-seed-1")] == ["stopped", "stopped"]
    assert found["rer-seed-2"]["status"] == "waiting"
    assert all((tmp_path / "out" / "runs" / name / "stopped").exists() for name in ("rer-seed-1", "li-seed-1"))


DRIVER = """
import sys
from argparse import Namespace
from pathlib import Path
from reward_evidence.study.command import run

source, out, *train = sys.argv[1:]
sys.exit(run(Namespace(study=source, out=Path(out), jobs=1, dry_run=False), [], train=train))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_the_same_command_resumes_it(
    number: signal.Signals, fake: Path, tmp_path: Path
) -> None:
    training = tmp_path / "rer-seed-1"
    os.mkfifo(training)
    command = [sys.executable, "-c", DRIVER, str(study_file(tmp_path)), str(tmp_path / "out"), *FAKE_TRAIN]
    environment = {**os.environ, "FAKE_HANG": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert training.read_text() == "begun"
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert errors == "stopped; run the same command again to continue\n"
    assert state(tmp_path)["rer-seed-1"]["status"] == "stopped"
    assert (tmp_path / "out" / "runs" / "rer-seed-1" / "stopped").exists()

    assert study(tmp_path) == 0
    assert calls(fake)[1]["argv"][0] == "--resume"
    assert calls(fake)[2]["argv"][:2] == ["--recipe", "li"]


# The service ---------------------------------------------------------------------------------------------------

SERVE = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
        if self.path == "/end":
            sys.exit(3)

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Ready).serve_forever()
"""


def test_a_service_is_started_for_the_study_and_stopped_after_it(tmp_path: Path) -> None:
    serve = (sys.executable, "-c", SERVE)
    with reward_service(Service(options=["--gold", "none"]), tmp_path / "log", lambda _: None, serve) as (
        url,
        check,
    ):
        check()
        assert url.startswith("http://127.0.0.1:")


def test_a_service_that_does_not_start_is_an_error_with_its_output(tmp_path: Path) -> None:
    serve = (sys.executable, "-c", "import sys; sys.exit('no such gold model')")
    with (
        pytest.raises(StudyError, match="the reward service ended with status 1: no such gold model"),
        reward_service(Service(), tmp_path / "log", lambda _: None, serve),
    ):
        pass


def test_when_the_service_has_ended_no_further_run_is_started(fake: Path, tmp_path: Path) -> None:
    def ended() -> None:
        raise StudyError("the reward service ended")

    (tmp_path / "out").mkdir()
    runs = plan_runs(Study.model_validate({"recipes": ["rer"], "seeds": [1, 2]}))
    of_study = StudyState(tmp_path / "out")
    of_study.plan(runs)

    with pytest.raises(StudyError, match="the reward service ended"):
        asyncio.run(StudyRunner(of_study, URL, lambda _: None, train=FAKE_TRAIN, check=ended).run(runs))

    assert calls(fake) == []
