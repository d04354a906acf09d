"""A training run: launch OpenRLHF on a plan, keep its checkpoints, evaluate them.

    plan ──▶ run directory, step 0 ──▶ Monitor: OpenRLHF ──▶ metrics.jsonl, checkpoints/ ──▶ evaluation, report

A run that ends early can be resumed, and the checkpoints that it saved can be evaluated.
"""

import json
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import Any

from reward_client.writing import check_folder, writing
from reward_runs import provenance
from reward_runs.errors import ConfigError, PreflightError, RunError
from reward_runs.events import RunEvent, add_event, stopped_by_rule
from reward_runs.files import replace_text
from reward_runs.layout import RunDir
from reward_runs.record import RunRecord, is_finished
from reward_trainer import service_probe, training_data
from reward_trainer.config import Config, validated
from reward_trainer.evaluation_log import EvaluationLog
from reward_trainer.live_evaluation import evaluation_command
from reward_trainer.monitor import Log, Monitor
from reward_trainer.openrlhf import saved_policies
from reward_trainer.plan import Plan, run_record

_STOP_GRACE_S = 5.0
"""Seconds in which an evaluation ends after a signal."""
_RESTART_S = 60.0
"""Seconds that the evaluation waits for a service that is just being restarted."""
_STATE = re.compile(r"global_step(\d+)")
"""Name of a state that OpenRLHF saves."""
_MODEL_IDENTITY = ("id", "revision", "device", "backend")
"""Fields of a model in `GET /info` that determine its scores."""


def resumed_config(run_dir: str, given: dict[str, object]) -> Config:
    """Return the settings of the run in `run_dir`; evaluation, address and description may change."""
    stored = RunRecord.read(RunDir(run_dir)).content()
    settings = {name: stored[name] for name in Config.model_fields if name in stored}
    changeable = {"reward_url", "run_dir", "evaluate", "evaluate_device", "stop_when", "note", "tags"}
    changed = [name for name, value in given.items() if name not in changeable and settings.get(name) != value]
    if changed:
        raise ConfigError(
            f"a resumed run keeps its settings, and these differ: {', '.join(sorted(changed))}. Leave them out."
        )
    return validated(settings | {name: given[name] for name in changeable & given.keys()})


def train(plan: Plan, log: Log, evaluation_log: EvaluationLog, *, resume: bool = False) -> None:
    """Train to the last step.

    Raises RunFailedError, StoppedByUser or StoppedByRule when the run ends before.
    """
    run = plan.run
    with run.lock() as lock_fd:
        if resume and is_finished(run):
            log(f"all {plan.config.steps} steps are done already")
            return
        done = continued_step(run) if resume else None
        check_start(plan, resume=resume)
        if resume and stopped_by_rule(run):
            add_event(run, RunEvent(kind="resumed", step=done or 0, message="the run was continued"))
        _write_inputs(plan, fresh=not resume)
        saved_policies.save_initial(plan.launch.policy, run)
        log(plan.rollout_engine)
        log(f"OpenRLHF starts; its output is written to {run.log}")
        Monitor(plan, log, lock_fd, evaluation_log, resume=done is not None).run()
        saved_policies.collect_final(run, plan.config.steps)
        shutil.rmtree(run.state, ignore_errors=True)  # needed to resume only


def continued_step(run: RunDir) -> int | None:
    """Return the step after which a resumed run continues; None when it starts again: OpenRLHF saved no state.

    It is the step of OpenRLHF's own state, which may be an earlier one than that of the last saved policy. Raises
    RunError when that state is damaged.
    """
    try:
        latest = (run.state / "_actor" / "latest").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _STATE.fullmatch(latest.strip())
    if found is None:
        raise RunError(
            f"{run.state / '_actor' / 'latest'} is damaged, so OpenRLHF cannot continue: remove the folder "
            f"{run.state} to train again from step 0 with --resume, or choose another --run-dir"
        )
    return int(found[1])


def check_start(plan: Plan, *, resume: bool) -> None:
    """Raise PreflightError when the run directory is taken, the reward has changed, or a trial reward fails.

    Raises OutputError when the run directory cannot be written.
    """
    run, endpoint = plan.run, plan.launch.endpoint
    check_folder(run.path)
    if run.config.exists() and not resume:
        raise PreflightError(
            f"{run.path} already contains a run: continue it with --resume, or choose another --run-dir"
        )
    if resume:
        _check_same_reward(plan)
    if cause := service_probe.trial_reward(endpoint, plan.trial_prompts, plan.trial_labels):
        raise PreflightError(f"the reward service rejected a trial request to {endpoint}: {cause}")


def _check_same_reward(plan: Plan) -> None:
    """Raise PreflightError when the reward has changed since the first step."""
    changed = reward_changes(RunRecord.read(plan.run), run_record(plan), needs_gold=plan.recipe_needs_gold)
    if changed:
        raise PreflightError(
            f"the service's reward differs from that at the start of this run ({', '.join(changed)}): "
            "start the service with the same recipe and models, or start a new run"
        )


def reward_changes(stored: RunRecord, now: RunRecord, *, needs_gold: bool) -> list[str]:
    """Return the inputs of the reward that differ between two records of a run.

    The hash covers the parameters, and releases may add parameters without changing it; so the parameters are
    compared only when a record has no hash.
    """
    before, after = stored.model_dump(mode="json"), now.model_dump(mode="json")

    def identity(record: dict[str, Any], model: str) -> list[Any]:
        described = record["service"].get(model) or {}
        return [described.get(key) for key in _MODEL_IDENTITY]

    models = ("relevance", "gold") if needs_gold else ("relevance",)
    recipe = "recipe_hash" if stored.recipe_hash and now.recipe_hash else "recipe_parameters"
    changed = [recipe] if before[recipe] != after[recipe] else []
    return changed + [name for name in models if identity(before, name) != identity(after, name)]


def _write_inputs(plan: Plan, *, fresh: bool) -> None:
    run, config = plan.run, plan.config
    with writing(run.train_data.parent):
        run.train_data.parent.mkdir(parents=True, exist_ok=True)
    if fresh:  # a resumed run reads the same rows in the same order
        n_prompts = config.steps * config.prompts_per_step
        rows = [
            training_data.training_row(prompt, config.system_prompt, chat=plan.launch.has_chat_template)
            for prompt in training_data.training_order(plan.training, n_prompts, config.seed)
        ]
        replace_text(run.train_data, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        replace_text(run.heldout_data, "".join(prompt.model_dump_json() + "\n" for prompt in plan.heldout))
    replace_text(run.freeze, provenance.freeze())
    run_record(plan).write(run)


def evaluate(plan: Plan, evaluation_log: EvaluationLog) -> int:
    """Evaluate the checkpoints in a child process; return its exit status.

    Ctrl-C in a terminal reaches the child too, which says how to go on; it has some time for that.
    """
    config = plan.config
    command = evaluation_command(plan.run, config.reward_url, config.evaluation_device)
    command += ["--wait", f"{_RESTART_S:g}"]
    with subprocess.Popen(command) as child:  # noqa: S603 - our module
        try:
            status = child.wait()
        except KeyboardInterrupt:
            status = _stop(child)
    if status == 0:
        evaluation_log.read()
    return status


def _stop(child: subprocess.Popen[bytes]) -> int:
    """Wait until the child has stopped too; return its exit status."""
    with suppress(subprocess.TimeoutExpired):
        return child.wait(_STOP_GRACE_S)
    child.send_signal(signal.SIGINT)  # the signal came to this process only
    with suppress(subprocess.TimeoutExpired):
        return child.wait(_STOP_GRACE_S)
    child.kill()
    return child.wait()
