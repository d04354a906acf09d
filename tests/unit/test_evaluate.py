"""The evaluation of a run: it resumes without repeating work, and measures what it reports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reward_evidence.evaluate import main
from reward_evidence.evaluation.evaluation_run import EvaluationRun, use_gold
from reward_evidence.evaluation.source import from_run, select_steps
from reward_runs.errors import EvaluationError, RunDirectoryError
from tests.unit.evidence_run import (
    DEMO_NOTICE,
    ScriptedSampler,
    Service,
    config,
    evaluated,
    info,
    make_checkpoint,
    make_evaluation_run,
    make_run,
    sampling_settings,
)
from tests.unit.scoring_server import service_url as service_url  # a fixture
from tests.unit.tiny_policy import make_tiny_run


def evaluate(
    evaluation_run: EvaluationRun, service: Service | None = None, *, fail_at: int | None = None
) -> list[int]:
    """Evaluate with scripted responses; return the steps that were sampled."""
    sampler = ScriptedSampler(evaluation_run.sampling or sampling_settings(), fail_at=fail_at)
    evaluation_run.run(lambda: sampler, service or Service())
    return sampler.sampled


# -- resuming


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", steps=(0, 2, 4), n_prompts=10)


def test_an_interrupted_evaluation_continues_without_sampling_a_step_twice(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_evaluation_run(run), fail_at=4)
    assert not (run / "evaluation.json").exists()
    before = (run / "evaluation" / "000002.jsonl").read_bytes()

    assert evaluate(make_evaluation_run(run)) == [4]
    assert (run / "evaluation" / "000002.jsonl").read_bytes() == before
    assert len(json.loads((run / "evaluation.json").read_text())["checkpoints"]) == 3


def test_a_finished_evaluation_uses_neither_model_nor_service(run: Path) -> None:
    evaluate(make_evaluation_run(run))
    service = Service()

    def no_model() -> ScriptedSampler:
        raise AssertionError("a model was loaded")

    make_evaluation_run(run).run(no_model, service)
    assert service.n_requests == 0


def test_a_checkpoint_whose_file_was_truncated_is_evaluated_again(run: Path) -> None:
    evaluate(make_evaluation_run(run))
    path = run / "evaluation" / "000002.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert evaluate(make_evaluation_run(run)) == [2]


def test_responses_of_other_settings_are_not_reused(run: Path) -> None:
    evaluate(make_evaluation_run(run))
    assert evaluate(make_evaluation_run(run, temperature=1.0)) == [0, 2, 4]


def test_a_checkpoint_with_other_weights_is_evaluated_again(run: Path) -> None:
    evaluate(make_evaluation_run(run))
    (run / "checkpoints" / "000004" / "model.safetensors").unlink()
    (run / "checkpoints" / "000004" / "config.json").unlink()
    (run / "checkpoints" / "000004").rmdir()
    make_checkpoint(run / "checkpoints" / "000004", step=99)
    assert evaluate(make_evaluation_run(run)) == [4]


def test_without_the_gold_model_all_steps_are_evaluated_again(run: Path) -> None:
    evaluate(make_evaluation_run(run))
    session = make_evaluation_run(run)
    session.gold = False
    assert evaluate(session) == [0, 2, 4]


def test_notices_of_a_resumed_evaluation_are_those_of_all_its_checkpoints(run: Path) -> None:
    evaluate(make_evaluation_run(run), Service(notices=("an earlier notice",)))
    evaluation = evaluated(run)
    assert "an earlier notice" in evaluation.notices
    assert DEMO_NOTICE in evaluation.notices


def test_evaluated_lines_contain_everything_that_was_measured(run: Path) -> None:
    evaluate(make_evaluation_run(run, samples=2))
    rows = [json.loads(line) for line in (run / "evaluation" / "000002.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    requested = {
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
    assert requested | scored <= set(rows[0])


def test_a_recipe_that_changed_since_training_is_a_notice(run: Path) -> None:
    (run / "config.json").write_text(json.dumps({**config(run), "recipe_hash": "0ld"}))
    evaluation = evaluated(run)
    assert any("0ld" in notice for notice in evaluation.notices)


def test_an_incomplete_checkpoint_is_excluded_with_a_notice(run: Path) -> None:
    weights = run / "checkpoints" / "000004" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    evaluation = evaluated(run)
    assert [checkpoint.step for checkpoint in evaluation.checkpoints] == [0, 2]
    assert any("step 4" in notice for notice in evaluation.notices)


SHARDS = [f"model-{index:05}-of-00003.safetensors" for index in (1, 2, 3)]


def split_weights(checkpoint: Path, shards: list[str], *, index: str | None) -> None:
    """Replace the weights of `checkpoint` with `shards`, and write `index` if there is one."""
    weights = checkpoint / "model.safetensors"
    for shard in shards:
        shutil.copy(weights, checkpoint / shard)
    weights.unlink()
    if index is not None:
        (checkpoint / "model.safetensors.index.json").write_text(index)


INDEX = json.dumps({"weight_map": {f"weight_{shard}": shard for shard in SHARDS}})


@pytest.mark.parametrize(
    ("shards", "index", "steps"),
    [
        (SHARDS, INDEX, [0, 2, 4]),
        (SHARDS[:2], INDEX, [0, 2]),
        (["part.safetensors"], INDEX, [0, 2]),
        (SHARDS, "{}", [0, 2]),
        (SHARDS, None, [0, 2, 4]),
        ([SHARDS[0], SHARDS[2]], None, [0, 2]),
    ],
)
def test_a_checkpoint_without_one_of_its_shards_is_incomplete(
    run: Path, shards: list[str], index: str | None, steps: list[int]
) -> None:
    split_weights(run / "checkpoints" / "000004", shards, index=index)

    assert list(from_run(run).steps) == steps


def test_progress_shows_responses_and_remaining_time(run: Path) -> None:
    log: list[str] = []
    evaluate(make_evaluation_run(run, log=log))
    assert any("10 of 10 responses" in line for line in log)
    assert any("remaining" in line for line in log)


# -- bad input


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"the run directory .*nothing does not exist"):
        from_run(tmp_path / "nothing")


def test_a_run_without_checkpoints_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(0,))
    (run / "checkpoints").rename(run / "elsewhere")
    with pytest.raises(RunDirectoryError, match="contains no complete checkpoint"):
        from_run(run)


def test_missing_held_out_prompts_are_named(run: Path) -> None:
    (run / "data" / "heldout.jsonl").unlink()
    with pytest.raises(RunDirectoryError, match=r"heldout\.jsonl are missing"):
        from_run(run)


def test_a_setting_that_config_lacks_is_named(run: Path) -> None:
    settings = config(run)
    del settings["max_new_tokens"]
    (run / "config.json").write_text(json.dumps(settings))
    with pytest.raises(RunDirectoryError, match=r"config\.json: max_new_tokens"):
        from_run(run)


def test_a_step_without_a_checkpoint_is_an_error_that_lists_the_steps(run: Path) -> None:
    with pytest.raises(EvaluationError, match="no checkpoint of step 3; there are 0, 2, 4"):
        select_steps(from_run(run), [0, 3])


def test_gold_is_used_if_the_service_has_it_and_is_an_error_if_requested_without() -> None:
    assert use_gold(None, info()) is True
    assert use_gold(None, info(gold=False)) is False
    assert use_gold(False, info()) is False
    with pytest.raises(EvaluationError, match="has no gold model"):
        use_gold(True, info(gold=False))


# -- the command, over HTTP


@pytest.mark.slow
def test_the_command_evaluates_real_models_and_writes_everything(
    tmp_path: Path, service_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_tiny_run(tmp_path / "tiny")
    assert main(["--run-dir", str(run), "--reward-url", service_url, "--steps", "0,1", "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    assert "[1/2] step 0" in output
    assert str(run / "report.html") in output
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [checkpoint["step"] for checkpoint in evaluation["checkpoints"]] == [0, 1]
    assert evaluation["checkpoints"][1]["kl"]["mean"] > 0
    for name in ("report.html", "alpaca_eval.json", "alpaca_eval_first.json", "plots/gold_by_step.png"):
        assert (run / name).is_file()
    assert not list(run.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["no tokenizer", "other weights", "invalid config"])
def test_a_checkpoint_that_cannot_be_loaded_is_an_error_that_names_folder_and_cause(
    tmp_path: Path, service_url: str, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    run = make_tiny_run(tmp_path / "tiny")
    cause = {
        "no tokenizer": "cannot load the tokenizer",
        "other weights": "cannot load the model .* weights are missing, such as ",
        "invalid config": "cannot load the model .*unheard_of",
    }[damage]
    for checkpoint in (run / "checkpoints").iterdir():
        if damage == "no tokenizer":
            for file in checkpoint.glob("tokenizer*"):
                file.unlink()
        elif damage == "other weights":
            save_file({"weight": torch.zeros(1)}, checkpoint / "model.safetensors")
        else:
            (checkpoint / "config.json").write_text('{"model_type": "unheard_of"}')

    assert main(["--run-dir", str(run), "--reward-url", service_url, "--steps", "0", "--device", "cpu"]) == 1

    error = capsys.readouterr().err
    assert re.search(f"error: {cause}", error, re.DOTALL)
    assert str(run / "checkpoints" / "000000") in error


def test_the_command_reports_an_error_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run-dir", str(tmp_path / "nothing")]) == 1
    assert "error: the run directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--temperature", "0"], ["--samples", "0"], ["--steps", "last"]])
def test_invalid_arguments_are_an_error_before_anything_is_read(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--run-dir", "nowhere", *arguments])
    assert arguments[0] in capsys.readouterr().err


def test_importing_the_command_does_not_import_torch() -> None:
    """Loading torch takes seconds, which an invalid argument should not."""
    program = "import sys, reward_evidence.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_run_whose_service_has_moved_names_the_option(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**recorded, "reward_url": "http://127.0.0.1:9"}))

    for more, hint in (([], True), (["--reward-url", "http://127.0.0.1:7"], False)):
        assert main(["--run-dir", str(run), *more]) == 1
        error = capsys.readouterr().err
        assert f"no service answers at {more[-1] if more else 'http://127.0.0.1:9'} (" in error
        assert ("name it with --reward-url" in error) == hint
