"""What happens beside a run: evaluations of saved checkpoints, scalars, events, and the settings of all that."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reward_evidence.report.write import write_report
from reward_runs.errors import ConfigError
from reward_runs.events import RunEvent, add_event, read_events, stopped_by_rule
from reward_runs.layout import RunDir
from reward_runs.record import RunRecord
from reward_trainer.config import Config, make_config
from reward_trainer.evaluation_log import EvaluationLog, StoppedByRule
from reward_trainer.live_evaluation import LiveEvaluation, evaluation_command
from reward_trainer.preflight import find_problems
from reward_trainer.tracking import scalars
from reward_trainer.train import resumed_config
from tests.live import until
from tests.unit.evidence_run import evaluated, make_checkpoint, make_run
from tests.unit.test_trainer_checks import BUDGET, CPU, info, recipe

RECORD = "import os, sys; open(sys.argv[1], 'a').write(f'{os.nice(0)}\\n'); sys.exit(int(sys.argv[2]))"


def config(**given: Any) -> Config:
    return make_config("demo", {"reward_url": "http://127.0.0.1:8000", "run_dir": "runs/x", **given})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(make_run(tmp_path / "demo", steps=(0, 4), n_prompts=10))


def starts(tmp_path: Path, status: int = 0) -> tuple[list[str], Callable[[], list[str]]]:
    """A command that records each start, and a function that reads the record."""
    record = tmp_path / "starts"
    return [sys.executable, "-c", RECORD, str(record), str(status)], lambda: record.read_text().splitlines()


# -- the process


def test_each_new_checkpoint_is_evaluated_once(run: RunDir, tmp_path: Path) -> None:
    command, started = starts(tmp_path)
    live = LiveEvaluation(run, command, print)

    live.poll()
    until(live.poll)
    live.poll()
    assert not live.is_running
    make_checkpoint(run.checkpoint(8), 8)
    live.poll()
    until(live.poll)

    assert len(started()) == 2


def test_the_process_has_a_lower_priority_than_the_training(run: RunDir, tmp_path: Path) -> None:
    command, started = starts(tmp_path)
    live = LiveEvaluation(run, command, print)
    live.poll()
    until(live.poll)

    assert int(started()[0]) == min(os.nice(0) + 10, 19)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_kernel_ends_the_evaluation_before_the_training_when_memory_is_exhausted(
    run: RunDir, tmp_path: Path
) -> None:
    score, own = tmp_path / "score", Path("/proc/self/oom_score_adj").read_text()
    live = LiveEvaluation(run, ["cp", "/proc/self/oom_score_adj", str(score)], print)
    live.poll()
    until(live.poll)

    assert score.read_text().strip() == "1000"
    assert Path("/proc/self/oom_score_adj").read_text() == own


def test_a_failed_evaluation_does_not_end_the_training(run: RunDir, tmp_path: Path) -> None:
    command, started = starts(tmp_path, status=1)
    log: list[str] = []
    live = LiveEvaluation(run, command, log.append)
    live.poll()
    until(lambda: live.poll() or not live.is_running)

    assert len(started()) == 1
    assert "evaluation.log" in log[0]
    assert not live.poll()
    assert not live.is_running, "it is not repeated before another checkpoint is saved"


def test_evaluations_that_were_killed_are_counted_so_that_their_end_explains_no_failed_training(
    run: RunDir,
) -> None:
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    live = LiveEvaluation(run, killed, print)
    assert live.n_killed == 0
    live.poll()
    until(lambda: live.n_killed == 1)
    assert live.is_running, "not yet noticed by `poll`"
    until(lambda: live.poll() or not live.is_running)

    assert live.n_killed == 1


def test_a_stopped_run_leaves_no_process(run: RunDir) -> None:
    live = LiveEvaluation(run, [sys.executable, "-c", "import time; time.sleep(60)"], print)
    live.poll()
    assert live.is_running
    live.stop()

    assert not live.is_running


def test_beside_a_training_the_gpus_are_left_to_it() -> None:
    assert config(evaluate="during").evaluation_device == "cpu"
    assert config(evaluate="during", evaluate_device="cuda:1").evaluation_device == "cuda:1"
    assert config().evaluation_device is None
    assert evaluation_command(RunDir("x"), "http://x", "cpu")[-2:] == ["--device", "cpu"]


# -- what follows an evaluation


def test_scalars_are_those_of_the_checkpoint(run: RunDir) -> None:
    checkpoint = evaluated(run.path).checkpoints[-1]
    found = scalars(checkpoint)

    assert found["eval/proxy_reward"] == checkpoint.proxy_reward.mean
    assert {"eval/gold_reward", "eval/words", "eval/tokens", "eval/truncated", "eval/empty", "eval/kl"} <= set(
        found
    )
    assert found["eval/feature/length_incentive"] == checkpoint.features["length_incentive"].mean


def scalars_of_tensorboard(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: {event.step: float(event.tensor_proto.float_val[0]) for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


def test_scalars_are_in_tensorboard_while_the_run_trains(run: RunDir) -> None:
    evaluation = evaluated(run.path)
    log = EvaluationLog(config(run_dir=str(run.path)), run, print)
    log.read()
    found = scalars_of_tensorboard(run.tensorboard / "demo-eval")

    assert set(found["eval/gold_reward"]) == {0, 4}
    gold = evaluation.checkpoints[-1].gold_reward
    assert gold is not None
    assert found["eval/gold_reward"][4] == pytest.approx(gold.mean)
    log.close()


def test_a_checkpoint_is_logged_once_also_by_a_resumed_run(run: RunDir) -> None:
    for steps in ((0, 4), (0, 4), (0, 4, 8)):
        for step in steps:
            if not run.checkpoint(step).is_dir():
                make_checkpoint(run.checkpoint(step), step)
        evaluated(run.path)
        log = EvaluationLog(config(run_dir=str(run.path)), run, print)
        log.read()
        log.read()
        log.close()

    assert [event.step for event in read_events(run) if event.kind == "evaluated"] == [0, 4, 8]


def test_warnings_are_logged_kept_and_reported(run: RunDir) -> None:
    make_checkpoint(run.checkpoint(60), 60)
    evaluation = evaluated(run.path)
    lines: list[str] = []
    log = EvaluationLog(config(run_dir=str(run.path)), run, lines.append)
    log.read()
    log.close()
    write_report(run.path)

    assert {warning.rule for warning in evaluation.warnings} >= {"truncated", "kl"}
    assert any(line.startswith("warning: step 60") and "128 tokens" in line for line in lines)
    assert {"truncated", "kl"} <= {event.rule for event in read_events(run) if event.kind == "warning"}
    page = (run.path / "report.html").read_text()
    assert "nats per response from the initial one" in page
    assert "Evaluations, warnings and stops while it trained" in page


def test_a_stop_rule_ends_the_run_and_keeps_its_reason(run: RunDir) -> None:
    evaluated(run.path)
    log = EvaluationLog(config(run_dir=str(run.path), evaluate="during", stop_when=["kl>0.1"]), run, print)
    log.check([{"step": 5}])
    log.read()
    with pytest.raises(StoppedByRule, match=r"kl>0\.1: kl is "):
        log.check([{"step": 5}])
    log.close()

    (stop,) = [event for event in read_events(run) if event.kind == "stop"]
    assert (stop.step, stop.rule) == (5, "kl>0.1")
    assert stop.time


def test_no_rule_stops_a_run_whose_last_step_is_done(run: RunDir) -> None:
    evaluated(run.path)
    given = config(run_dir=str(run.path), evaluate="during", stop_when=["kl>0.1"], steps=5)
    log = EvaluationLog(given, run, print)
    log.read()
    log.check([{"step": 5}])
    log.close()

    assert [event for event in read_events(run) if event.kind == "stop"] == []


def test_a_run_that_was_resumed_after_a_stop_is_not_stopped(run: RunDir) -> None:
    assert stopped_by_rule(run) is None
    stop = RunEvent(kind="stop", step=4, rule="kl>1", message="kl>1: kl is 2")
    add_event(run, stop)
    add_event(run, RunEvent(kind="evaluated", step=4, message="proxy 1"))
    found = stopped_by_rule(run)
    assert found is not None
    assert found.message == "kl>1: kl is 2"

    add_event(run, RunEvent(kind="resumed", step=4, message="the run was continued"))
    assert stopped_by_rule(run) is None


def test_a_run_whose_last_step_is_done_is_not_one_that_a_rule_stopped(run: RunDir) -> None:
    RunRecord.model_validate(config(run_dir=str(run.path), steps=8).model_dump(mode="json")).write(run)
    add_event(run, RunEvent(kind="stop", step=8, rule="kl>1", message="kl>1: kl is 2"))
    assert stopped_by_rule(run) is not None

    make_checkpoint(run.checkpoint(8), 8)
    assert stopped_by_rule(run) is None


def test_a_resumed_run_can_have_its_stop_rules_removed(run: RunDir) -> None:
    stored = config(run_dir=str(run.path), evaluate="during", stop_when=["kl>1"])
    RunRecord.model_validate(stored.model_dump(mode="json")).write(run)

    assert resumed_config(str(run.path), {}).stop_when == ("kl>1",)
    assert resumed_config(str(run.path), {"stop_when": ["none"]}).stop_when == ()
    with pytest.raises(ConfigError, match="stop rule 'none'"):
        resumed_config(str(run.path), {"stop_when": ["none", "kl>30"]})


def test_a_tracker_that_fails_does_not_end_the_training(run: RunDir) -> None:
    evaluated(run.path)
    run.tensorboard.write_text("a file where a folder should be")
    lines: list[str] = []
    log = EvaluationLog(config(run_dir=str(run.path)), run, lines.append)
    log.read()
    log.close()

    assert any("TensorBoard" in line for line in lines)
    assert [event.step for event in read_events(run) if event.kind == "evaluated"] == [0, 4]


class FailingClient:
    """An MLflow client that receives values, and fails when a run ends."""

    def __init__(self, **_: object) -> None:
        pass

    def get_experiment_by_name(self, _: str) -> Any:
        return SimpleNamespace(experiment_id="0")

    def create_run(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def log_metric(self, *_: object, **__: object) -> None:
        pass

    def set_terminated(self, _: str) -> None:
        raise ConnectionError("no route")


def test_a_tracker_that_cannot_be_closed_is_a_note(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated(run.path)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=FailingClient))
    lines: list[str] = []
    log = EvaluationLog(config(run_dir=str(run.path), mlflow_experiment="e"), run, lines.append)
    log.read()
    log.close()

    assert lines[-1] == "note: MLflow was not closed: ConnectionError: no route"


def test_an_evaluation_that_cannot_start_is_a_note(run: RunDir) -> None:
    lines: list[str] = []
    log = EvaluationLog(config(run_dir=str(run.path)), run, lines.append)
    live = LiveEvaluation(run, [str(run.path / "no-such-program")], lines.append)
    log.follow(live)
    log.follow(live)

    (line,) = lines
    assert "note: " in line
    assert "no-such-program" in line


def test_an_evaluation_that_cannot_be_read_is_a_note(run: RunDir, tmp_path: Path) -> None:
    (run.path / "evaluation.json").write_bytes(b'{"format": "\xff')
    lines: list[str] = []
    log = EvaluationLog(config(run_dir=str(run.path)), run, lines.append)
    live = LiveEvaluation(run, starts(tmp_path)[0], lines.append)
    log.follow(live)

    def is_read() -> bool:
        log.follow(live)
        return not live.is_running

    until(is_read)

    (line,) = lines
    assert "written by another version" in line


def test_a_line_that_was_not_finished_is_left_out(run: RunDir) -> None:
    add_event(run, RunEvent(kind="evaluated", step=1, message="a"))
    with run.events.open("ab") as file:
        file.write('{"kind": "warning", "message": "é'.encode()[:-1])

    assert [event.step for event in read_events(run)] == [1]


# -- settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stop_when": ["kl>1"]}, "needs evaluated checkpoints: add --evaluate during"),
        ({"stop_when": ["gold-fell"], "evaluate": "after"}, "needs evaluated checkpoints"),
        ({"stop_when": ["rollout_kl>1"]}, "with a KL coefficient of 0 it is not measured"),
        ({"stop_when": ["loss>1"]}, "stop rule 'loss>1'"),
        ({"evaluate": "sometimes"}, "evaluate"),
    ],
)
def test_a_rule_that_can_never_apply_is_an_error(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**given)


@pytest.mark.parametrize(("stored", "now"), [(True, "after"), (False, "never"), ("during", "during")])
def test_the_record_of_an_earlier_release_is_read(stored: object, now: str) -> None:
    assert config(evaluate=stored).evaluate == now


def test_what_a_run_cannot_log_or_compare_is_a_problem_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = config(evaluate="during", stop_when=["gold-fell"], mlflow_experiment="e")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mlflow" else object())
    found = find_problems(wanted, info(recipe()), BUDGET, CPU, {})

    assert found == [
        "--mlflow needs the package mlflow: pip install mlflow",
        "stop rule 'gold-fell' needs a gold model, and the service has none loaded",
    ]
