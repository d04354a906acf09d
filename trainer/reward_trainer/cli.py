"""`glassbox train`, also `python trainer/run.py`: train a policy with OpenRLHF and the reward service."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from reward_client import RewardError
from reward_client.cli.command import run_program
from reward_client.cli.options import add_recipe_overrides, add_wait
from reward_client.urls import API_KEY_VARIABLE, Address, ApiKey, key_from_environment, split_urls
from reward_client.wire import Info
from reward_evidence.sampling.policy_folder import EMBEDDED_POLICY, check_policy
from reward_evidence.statistics.run_warnings import RULES
from reward_runs.errors import ConfigError, PreflightError, RunError
from reward_runs.layout import RunDir
from reward_runs.prompts import add_columns
from reward_runs.record import MOVED, is_finished
from reward_trainer import dry_run, service_probe, train
from reward_trainer.config import DEFAULT_RECIPE, ESTIMATORS, NO_RULES, PRESETS, Config, make_config
from reward_trainer.evaluation_log import EvaluationLog, StoppedByRule
from reward_trainer.hardware import detect_hardware
from reward_trainer.monitor import StoppedByUser
from reward_trainer.plan import Plan, prepare

DESCRIPTION = """\
Train a policy with OpenRLHF; the reward service computes the reward of every rollout.
With a GPU OpenRLHF samples with vLLM; without one, with Transformers (small policies only).
The run directory contains all files of a run. After the last step the checkpoints are evaluated, and a report is
written."""

EPILOG = """\
examples:
  glassbox serve --gold demo-gold                                 start the service, in another terminal
  glassbox train --reward-url http://127.0.0.1:8000               a small run of the embedded policy
  glassbox train --reward-url URL --preset paper --recipe rer --policy Qwen/Qwen2.5-0.5B-Instruct \\
    --prompts my.jsonl                                            the paper's settings, with the default encoder
  glassbox train --reward-url URL --recipe li --seed 7            an ablation: length alone
  glassbox train --reward-url URL --dry-run                       check everything, print what the run would do
  glassbox train --resume --run-dir runs/NAME                     continue a run that was stopped
  glassbox train --reward-url URL -- --actor.entropy_coef 0.001   options after -- are passed to OpenRLHF

`python trainer/run.py …` is the same command.
Write flags of OpenRLHF in full: it accepts abbreviations, so a truncated name may set a different option.
docs/guide/training.md explains the settings and lists those of the paper."""

EXIT_FAILED = 1
EXIT_REFUSED = 2
"""A dry run that found a problem."""
EXIT_STOPPED = 130


def main(argv: Sequence[str] | None = None, prog: str = "glassbox train") -> int:
    """Parse `argv` and run the command; return the exit status."""
    return run_program(prog, configure, run, argv)


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Train, resume, or check with --dry-run; return the exit status."""
    options = dict(vars(arguments))
    resume, only_check, preset, wait_s = (options.pop(name) for name in ("resume", "dry_run", "preset", "wait"))
    given = {name: value for name, value in options.items() if value is not None and value != []}
    try:
        _move_key_to_environment(given)
        config = _config(given, preset, resume=resume)
        if only_check and resume and is_finished(RunDir(config.run_dir)):
            print(dry_run.finished(config))
            return 0
        check_policy(config.policy)  # before the service, because a wrong name needs none to be found
        info = _service_info(config, wait_s, recorded="reward_url" not in given)
        plan = prepare(config, info, detect_hardware())
        if only_check:
            return _dry_run(plan, None if resume else preset, resume=resume)
        return _run(plan, preset, resume=resume)
    except RunError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return EXIT_REFUSED if only_check else EXIT_FAILED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return EXIT_STOPPED


def _service_info(config: Config, wait_s: float | None, *, recorded: bool) -> Info:
    """What the service offers; `recorded`: the address is that of the run's record."""
    try:
        return service_probe.service_info(config.reward_urls, config.recipe, wait_s=wait_s, say=_log)
    except PreflightError as exc:
        if not recorded:
            raise
        raise PreflightError(f"{exc}; {MOVED}") from exc


def _move_key_to_environment(given: dict[str, Any]) -> None:
    """Move a key from the URL to the environment, so that no file or log contains it."""
    try:
        if "reward_url" in given:
            found = [Address.parse(url) for url in split_urls(given["reward_url"])]
            if not found:
                raise ConfigError("--reward-url is empty: set it to the address of the reward service")
            given["reward_url"] = ",".join(address.url for address in found)
            keys = {address.key for address in found if address.key is not None}
            if len(keys) > 1:
                raise ConfigError("reward_url: the URLs have different keys; replicas must accept the same one")
            for key in keys:
                os.environ[API_KEY_VARIABLE] = key.secret
        if secret := key_from_environment():
            ApiKey(secret)
    except RewardError as exc:
        raise ConfigError(f"reward_url: {exc}") from exc


def _config(given: dict[str, Any], preset: str, *, resume: bool) -> Config:
    if resume:
        if "run_dir" not in given:
            raise ConfigError("--resume needs --run-dir: name the run to continue")
        return train.resumed_config(given["run_dir"], given)
    if "reward_url" not in given:
        raise ConfigError("--reward-url is missing: set it to the address of the reward service")
    recipe = given.get("recipe") or PRESETS[preset].get("recipe", DEFAULT_RECIPE)
    given.setdefault("run_dir", f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{recipe}")
    return make_config(preset, given)


def _dry_run(plan: Plan, preset: str | None, *, resume: bool) -> int:
    train.check_start(plan, resume=resume)
    done = train.continued_step(plan.run) if resume else None
    print(dry_run.summary(plan, preset, done))
    print("\nEverything was checked, and nothing was started. OpenRLHF's command:\n")
    print(dry_run.openrlhf_command(plan, resume=done is not None))
    return 0


def _run(plan: Plan, preset: str, *, resume: bool) -> int:
    config = plan.config
    for note in plan.notes:
        _log(f"note: {note}")
    if preset == "tiny":
        _log("note: preset tiny is a smoke test: it shows that everything works, and teaches nothing")
    _log(f"run directory: {plan.run.path}")
    _log(f"{len(plan.training)} training prompts, {len(plan.heldout)} held out; recipe {config.recipe}")
    with closing(EvaluationLog(config, plan.run, _log)) as evaluation_log:
        return _train(plan, evaluation_log, resume=resume)


def _train(plan: Plan, evaluation_log: EvaluationLog, *, resume: bool) -> int:
    try:
        train.train(plan, _log, evaluation_log, resume=resume)
    except StoppedByUser:
        _log(f"stopped; continue with: glassbox train --resume --run-dir {plan.run.path}")
        return EXIT_STOPPED
    except StoppedByRule as exc:
        _log(f"stopped by the rule {exc}")
        return _evaluate(plan, evaluation_log)
    _log(f"training finished; checkpoints of steps {plan.run.saved_steps()} in {plan.run.checkpoints}")
    return _evaluate(plan, evaluation_log)


def _evaluate(plan: Plan, evaluation_log: EvaluationLog) -> int:
    return 0 if plan.config.evaluate == "never" else train.evaluate(plan, evaluation_log)


def _log(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    _add_policy_and_prompts(parser.add_argument_group("policy and prompts"))
    _add_reward(parser.add_argument_group("reward"))
    _add_training(parser.add_argument_group("training (defaults: the preset's)"))
    _add_run(parser.add_argument_group("run"))
    parser.add_argument(
        "raw_flags", nargs="*", metavar="-- OPENRLHF FLAGS", help="after --: flags passed to OpenRLHF unchanged"
    )


def _add_policy_and_prompts(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--policy", metavar="MODEL", help=f"{EMBEDDED_POLICY} (embedded, default), a folder, or a Hugging Face id")
    add(
        "--prompts",
        metavar="SOURCE",
        help="embedded (default), a .jsonl, .json, .csv or .parquet file, or a Hugging Face dataset",
    )
    add("--heldout", metavar="SOURCE", help="held-out prompts (default: a part of --prompts)")
    add_columns(group)
    add("--max-prompt-tokens", type=int, metavar="N", help="longer prompts are an error (default: 1024)")


def _add_reward(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    address = "address of the reward service, or of replicas, separated by commas; set the key in GLASSBOX_API_KEY"
    add("--reward-url", metavar="URL", help=address)
    add_wait(group)
    recipes = f"reward recipe; GET /info lists them (default: {DEFAULT_RECIPE}; rer-reference with --preset paper)"
    add("--recipe", metavar="NAME", help=recipes)
    add_recipe_overrides(group)
    add(
        "--gold",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also log the gold reward at each step (default: no; the evaluation always uses it)",
    )


def _add_training(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--preset",
        choices=sorted(PRESETS),
        default="demo",
        help="settings to start from (default: demo; tiny is a smoke test)",
    )
    add("--estimator", choices=ESTIMATORS, help="advantage estimator")
    add("--steps", type=int, metavar="N", help="rollout batches, each followed by training")
    add("--save-every", type=int, metavar="N", help="steps between two checkpoints")
    add("--learning-rate", type=float, metavar="X", help="of the policy's optimizer")
    add("--prompts-per-step", type=int, metavar="N", help="prompts in a rollout batch")
    add("--samples-per-prompt", type=int, metavar="N", help="responses to each prompt")
    add("--train-batch-size", type=int, metavar="N", help="rollouts per optimizer step (default: all)")
    add("--micro-batch-size", type=int, metavar="N", help="rollouts per forward pass")
    add("--max-new-tokens", type=int, metavar="N", help="maximum length of a response")
    add("--temperature", type=float, metavar="X", help="of sampling rollouts")
    add("--nodes", type=int, metavar="N", help="nodes of the Ray cluster at RAY_ADDRESS (default: 1)")
    overlap = "sample the next rollouts while training, on devices of their own (default: in turn)"
    add("--async", dest="asynchronous", action="store_true", default=None, help=overlap)
    add("--kl-coefficient", type=float, metavar="X", help="0: no reference policy")
    add("--seed", type=int, metavar="N", help="default: 42")


def _add_run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--run-dir", metavar="DIR", help="default: runs/TIME-RECIPE")
    add("--resume", action="store_true", help="continue the run in --run-dir with its settings")
    add(
        "--dry-run",
        action="store_true",
        help="check everything, print what the run would do, stop; status 2 if it would fail",
    )
    when = "evaluate each checkpoint as it is saved, beside the training; all after it (default); or none"
    add("--evaluate", choices=("during", "after", "never"), help=when)
    add("--no-evaluate", dest="evaluate", action="store_const", const="never", help="the same as --evaluate never")
    device = "torch device of the evaluations (default: cpu with --evaluate during, else cuda if available)"
    add("--evaluate-device", metavar="NAME", help=device)
    stop = (
        f"end the run when this applies: a warning ({', '.join(RULES)}) or, as an example, 'kl>30'; repeat it; "
        f"with --resume, {NO_RULES} removes the run's rules"
    )
    add("--stop-when", action="append", metavar="RULE", help=stop)
    add("--note", metavar="TEXT", help="description of the run, for the list of runs")
    add("--tag", dest="tags", action="append", metavar="WORD", help="word for the list of runs; repeat it")
    add("--tensorboard", dest="tensorboard_dir", metavar="DIR", help="default: tensorboard in the run directory")
    add("--wandb", dest="wandb_project", metavar="PROJECT", help="also log to Weights & Biases (WANDB_API_KEY)")
    mlflow = "also log evaluated checkpoints to MLflow (MLFLOW_TRACKING_URI; default: mlflow.db beside the run)"
    add("--mlflow", dest="mlflow_experiment", metavar="EXPERIMENT", help=mlflow)
