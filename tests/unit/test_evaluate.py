"""The evaluation of checkpoints: resumed without doing anything twice, and right about what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reward_client.wire import ScoreRequest
from reward_evidence.evaluate import main
from reward_evidence.evaluation.evaluation_run import EvaluationRun, find_recipe, wants_gold
from reward_evidence.evaluation.store import EvaluationError
from reward_runs.run_reader import RunReader
from tests.unit.evidence_run import (
    DEMO_NOTICE,
    Scripted,
    Service,
    config,
    info,
    make_checkpoint,
    make_run,
    make_session,
)
from tests.unit.tiny_policy import make_tiny_run


def evaluate(session: EvaluationRun, service: Service | None = None, *, fail_at: int | None = None) -> Scripted:
    responder = Scripted(session.draw_settings, fail_at=fail_at)
    session.run(lambda: responder, service or Service())
    return responder


# -- resuming


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", steps=(0, 2, 4), n_prompts=10)


def test_a_killed_evaluation_goes_on_without_answering_anything_twice(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_session(run), fail_at=4)
    assert not (run / "evaluation.json").exists()
    before = (run / "evaluation" / "000002.jsonl").read_bytes()

    assert evaluate(make_session(run)).answered == [4]
    assert (run / "evaluation" / "000002.jsonl").read_bytes() == before
    assert len(json.loads((run / "evaluation.json").read_text())["checkpoints"]) == 3


def test_a_finished_evaluation_asks_neither_model_nor_service(run: Path) -> None:
    evaluate(make_session(run))
    service = Service()
    session = make_session(run)

    def no_model() -> Scripted:
        raise AssertionError("a model was loaded")

    session.run(no_model, service)
    assert service.n_requests == 0


def test_a_checkpoint_whose_lines_were_cut_off_is_evaluated_again(run: Path) -> None:
    evaluate(make_session(run))
    path = run / "evaluation" / "000002.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert evaluate(make_session(run)).answered == [2]


def test_other_settings_are_never_mixed_with_old_ones(run: Path) -> None:
    evaluate(make_session(run))
    assert evaluate(make_session(run, temperature=1.0)).answered == [0, 2, 4]


def test_a_checkpoint_with_other_weights_is_evaluated_again(run: Path) -> None:
    evaluate(make_session(run))
    (run / "checkpoints" / "000004" / "model.safetensors").unlink()
    (run / "checkpoints" / "000004" / "config.json").unlink()
    (run / "checkpoints" / "000004").rmdir()
    make_checkpoint(run / "checkpoints" / "000004", step=99)
    assert evaluate(make_session(run)).answered == [4]


def test_another_gold_model_means_another_evaluation(run: Path) -> None:
    evaluate(make_session(run))
    session = make_session(run)
    session.gold = False
    assert evaluate(session).answered == [0, 2, 4]


def test_notices_of_a_resumed_evaluation_are_those_of_all_its_checkpoints(run: Path) -> None:
    evaluate(make_session(run), Service(notices=("said once",)))
    session = make_session(run)
    evaluation = session.run(lambda: Scripted(session.draw_settings), Service())
    assert "said once" in evaluation.notices
    assert DEMO_NOTICE in evaluation.notices


def test_evaluated_lines_hold_everything_that_was_measured(run: Path) -> None:
    evaluate(make_session(run, samples=2))
    rows = [json.loads(line) for line in (run / "evaluation" / "000002.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    asked = {
        "prompt_id",
        "sample",
        "seed",
        "query_type",
        "prompt",
        "reference",
        "response",
        "n_tokens",
        "truncated",
    }
    scored = {"proxy_reward", "gold_reward", "features", "flags", "kl"}
    assert asked | scored <= set(rows[0])


def test_a_recipe_that_changed_since_training_is_a_notice(run: Path) -> None:
    (run / "config.json").write_text(json.dumps({**config(run), "recipe_hash": "0ld"}))
    session = make_session(run)
    evaluation = session.run(lambda: Scripted(session.draw_settings), Service())
    assert any("0ld" in notice for notice in evaluation.notices)


def test_a_checkpoint_that_was_not_written_to_its_end_is_left_out_and_said(run: Path) -> None:
    weights = run / "checkpoints" / "000004" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    session = make_session(run)
    evaluation = session.run(lambda: Scripted(session.draw_settings), Service())
    assert [checkpoint.step for checkpoint in evaluation.checkpoints] == [0, 2]
    assert any("step 4" in notice for notice in evaluation.notices)


def test_progress_says_how_long_it_still_takes(run: Path) -> None:
    said: list[str] = []
    evaluate(make_session(run, said=said))
    assert any("10 of 10 responses" in line for line in said)
    assert any("left" in line for line in said)


# -- bad input


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="there is no run directory"):
        RunReader.open(tmp_path / "nothing")


def test_a_run_without_checkpoints_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(0,))
    (run / "checkpoints").rename(run / "elsewhere")
    with pytest.raises(EvaluationError, match="no complete checkpoint"):
        RunReader.open(run)


def test_missing_held_out_prompts_are_named(run: Path) -> None:
    (run / "data" / "heldout.jsonl").unlink()
    with pytest.raises(EvaluationError, match=r"heldout\.jsonl are missing"):
        RunReader.open(run)


def test_a_setting_that_config_lacks_is_named(run: Path) -> None:
    settings = config(run)
    del settings["max_new_tokens"]
    (run / "config.json").write_text(json.dumps(settings))
    with pytest.raises(EvaluationError, match=r"config\.json: max_new_tokens"):
        RunReader.open(run)


def test_a_step_without_a_checkpoint_is_refused_with_those_there_are(run: Path) -> None:
    with pytest.raises(EvaluationError, match="no checkpoint of step 3; there are 0, 2, 4"):
        RunReader.open(run).select([0, 3])


def test_gold_is_used_when_the_service_has_it_and_refused_when_asked_for_in_vain() -> None:
    assert wants_gold(None, info()) is True
    assert wants_gold(None, info(gold=False)) is False
    assert wants_gold(False, info()) is False
    with pytest.raises(EvaluationError, match="has no gold model"):
        wants_gold(True, info(gold=False))


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EvaluationError, match="knows no recipe 'nope'; it knows rer"):
        find_recipe("nope", info())


# -- the command, over HTTP


class Handler(BaseHTTPRequestHandler):
    """The part of the reward service that an evaluation needs."""

    service = Service()

    def do_GET(self) -> None:
        self._reply(info().model_dump_json() if self.path == "/info" else '{"status": "ready"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        request = ScoreRequest.model_validate_json(body)
        reply = self.service.score(request.items, recipe=request.recipe, gold=request.gold, step=request.step)
        self._reply(reply.model_dump_json())

    def _reply(self, body: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_command_evaluates_real_models_and_writes_everything(
    tmp_path: Path, service_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_tiny_run(tmp_path / "tiny")
    assert (
        main(["--run-dir", str(run), "--reward-url", service_url, "--checkpoints", "0,1", "--device", "cpu"]) == 0
    )
    output = capsys.readouterr().out
    assert "[1/2] step 0" in output
    assert str(run / "report.html") in output
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [checkpoint["step"] for checkpoint in evaluation["checkpoints"]] == [0, 1]
    assert evaluation["checkpoints"][1]["kl"]["mean"] > 0
    for name in ("report.html", "alpaca_eval.json", "alpaca_eval_first.json", "plots/gold_by_step.png"):
        assert (run / name).is_file()
    assert not list(run.rglob("*.tmp"))


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run-dir", str(tmp_path / "nothing")]) == 1
    assert "error: there is no run directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--temperature", "0"], ["--samples", "0"], ["--checkpoints", "last"]])
def test_wrong_arguments_are_refused_before_anything_is_read(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--run-dir", "nowhere", *arguments])
    assert arguments[0] in capsys.readouterr().err


def test_help_and_errors_do_not_wait_for_torch() -> None:
    """Loading torch takes seconds; a wrong argument should not."""
    program = "import sys, reward_evidence.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
