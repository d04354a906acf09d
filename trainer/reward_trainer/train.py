"""A training run: launch the real OpenRLHF on a plan, watch it, keep its checkpoints, have them evaluated.

    plan ──▶ run directory, step 0 ──▶ OpenRLHF ──▶ metrics.jsonl, checkpoints/ ──▶ evaluation, report
                                         └─ every half second: log, stop request; every five: is the service ready?

A run that ends early leaves a directory that can be resumed, or evaluated as far as it came.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from reward_runs import checkpoints, prompts, provenance
from reward_runs.errors import ConfigError, PreflightError, RewardLostError, RunFailedError
from reward_runs.layout import RunDir, replace_text
from reward_runs.step_metrics import Metrics, parse_step
from reward_trainer import preflight
from reward_trainer.config import Config
from reward_trainer.failure_detector import FailureDetector, last_error, phase_of
from reward_trainer.openrlhf import api_key
from reward_trainer.openrlhf.cpu import environment as cpu_environment
from reward_trainer.openrlhf.process import OpenRLHFProcess, child_environment
from reward_trainer.plan import Plan, run_record
from reward_trainer.progress import feature_labels, step_line

__all__ = ["Stopped", "evaluate", "resumed_config", "train"]

Say = Callable[[str], None]
"""Takes a line for the person."""

_POLL_S = 0.5
_PROBE_EVERY_S = 5.0
_LINES_KEPT = 400
_ASK_AGAIN_S = 5.0
"""Seconds for the service to say what is wrong, once a run is to be stopped."""


class Stopped(Exception):  # noqa: N818 - the person's wish, no error
    """The person, or the system, asked the run to stop."""


def resumed_config(run_dir: str, given: dict[str, object]) -> Config:
    """Return the settings of the run in `run_dir`; only the service's address and the evaluation may change."""
    stored = RunDir.at(run_dir).read_config()
    settings = {name: stored[name] for name in Config.model_fields if name in stored}
    movable = {"reward_url", "run_dir", "evaluate"}
    changed = [name for name, value in given.items() if name not in movable and settings.get(name) != value]
    if changed:
        raise ConfigError(
            f"a resumed run keeps its settings; these differ: {', '.join(sorted(changed))}. Leave them out."
        )
    return Config.model_validate(settings | {name: given[name] for name in movable & given.keys()})


def train(plan: Plan, say: Say, *, resume: bool = False) -> None:
    """Train to the last step; raise RunFailedError, or its RewardLostError, when that was not possible."""
    run = plan.run
    with run.locked() as lock_fd:
        if run.config.exists() and not resume:
            raise PreflightError(f"{run.path} holds a run already: go on with --resume, or give another --run-dir")
        if resume and run.checkpoint(plan.config.steps).is_dir():
            say(f"all {plan.config.steps} steps are done already")
            return
        if resume:
            _check_same_reward(plan)
        _check_rewards(plan)
        can_continue = resume and (run.state / "_actor" / "latest").is_file()
        _write_inputs(plan, fresh=not resume)
        checkpoints.save_initial(plan.facts.policy, run)
        say(plan.rollout_engine)
        say(f"OpenRLHF starts; its output goes to {run.log}")
        _Launch(plan, say, lock_fd, resume=can_continue).run()
        checkpoints.collect_final(run, plan.config.steps)
        shutil.rmtree(run.state, ignore_errors=True)  # it serves to resume, and there is nothing left to do


def _check_rewards(plan: Plan) -> None:
    cause = preflight.trial_reward(plan.facts.endpoint, plan.trial_prompts, plan.trial_labels)
    if cause is not None:
        raise PreflightError(f"the reward service refused a trial reward at {plan.facts.endpoint}: {cause}")


def _check_same_reward(plan: Plan) -> None:
    """A run has one reward from its first step to its last."""
    stored, now = plan.run.read_config(), json.loads(run_record(plan))
    changed = [name for name in ("recipe_hash", "recipe_parameters") if stored.get(name) != now[name]]
    models = ["relevance", *(["gold"] if plan.recipe_needs_gold else [])]
    changed += [name for name in models if stored.get("service", {}).get(name) != now["service"][name]]
    if changed:
        raise PreflightError(
            f"the service computes another reward than the one this run began with ({', '.join(changed)} differ): "
            "start it as it was, or begin a new run"
        )


def _write_inputs(plan: Plan, *, fresh: bool) -> None:
    run, config = plan.run, plan.config
    run.train_data.parent.mkdir(parents=True, exist_ok=True)
    if fresh:  # a resumed run reads the same rows in the same order
        ordered = prompts.training_order(plan.training, config.steps * config.prompts_per_step, config.seed)
        rows = [
            prompts.training_row(prompt, config.system_prompt, chat=plan.facts.has_chat_template)
            for prompt in ordered
        ]
        replace_text(run.train_data, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        heldout = [prompt.model_dump_json() + "\n" for prompt in plan.heldout]
        replace_text(run.heldout_data, "".join(heldout))
    replace_text(run.freeze, provenance.freeze())
    replace_text(run.config, run_record(plan))


class _Launch:
    """One launch of OpenRLHF, from start to a result."""

    def __init__(self, plan: Plan, say: Say, lock_fd: int, *, resume: bool) -> None:
        self._plan = plan
        self._say = say
        self._resume = resume
        self._lock_fd = lock_fd
        self._metrics = Metrics(plan.run.metrics)
        if not resume:
            self._metrics.clear()
        self._watch = FailureDetector()
        self._recent: list[str] = []
        self._phase: str | None = None
        known = self._metrics.steps
        self._started_s = time.monotonic() - (known[-1]["time_s"] if known else 0.0)
        self._next_probe_s = 0.0

    def run(self) -> None:
        plan = self._plan
        arguments = plan.command(resume=self._resume)
        environment = api_key.environment(child_environment(os.environ))
        if not plan.hardware.has_gpu:
            environment = cpu_environment(
                environment,
                n_devices=plan.hardware.n_ranks,
                n_threads=plan.hardware.n_threads,
                rollouts_per_batch=plan.config.rollouts_per_step // plan.hardware.n_ranks,
            )
        with (
            _stop_requests() as stop_requested,
            OpenRLHFProcess(arguments, environment, plan.run.log, self._lock_fd) as process,
        ):
            try:
                self._follow(process, stop_requested)
            finally:
                process.stop()
                with suppress(RewardLostError):  # the first one is on its way already
                    self._read(process)
                checkpoints.collect(plan.run)

    def _follow(self, process: OpenRLHFProcess, stop_requested: Callable[[], bool]) -> None:
        while process.return_code is None:
            if stop_requested():
                raise Stopped
            self._read(process)
            self._probe()
            time.sleep(_POLL_S)
        self._read(process)
        done = self._metrics.steps[-1]["step"] if self._metrics.steps else 0
        if process.return_code != 0 or done < self._plan.config.steps:
            cause = last_error(self._recent) or f"exit status {process.return_code}"
            raise RunFailedError(
                f"OpenRLHF ended after step {done}: {cause}. Its output is in {self._plan.run.log}."
            )

    def _read(self, process: OpenRLHFProcess) -> None:
        for line in process.new_lines():
            self._recent = [*self._recent[-_LINES_KEPT:], line]
            if cause := self._watch.line(line):
                raise self._reward_lost(cause)
            self._show(line)

    def _show(self, line: str) -> None:
        step = parse_step(line, has_reference_policy=self._plan.config.kl_coefficient > 0)
        if step is not None:
            self._metrics.add({**step, "time_s": round(time.monotonic() - self._started_s, 1)})
            labels = feature_labels(self._plan.info.features)
            self._say(step_line(self._metrics.steps, self._plan.config.steps, labels))
            checkpoints.collect(self._plan.run, before=step["step"])
        phase = phase_of(line)
        if phase is not None and phase != self._phase and not self._metrics.steps:
            self._phase = phase
            self._say(phase)

    def _probe(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_probe_s:
            return
        self._next_probe_s = now_s + _PROBE_EVERY_S
        cause = preflight.why_not_ready(self._plan.config.reward_url)
        if stop := self._watch.service(cause, now_s):
            raise self._reward_lost(stop)

    def _reward_lost(self, cause: str) -> RewardLostError:
        """Ask the service itself: OpenRLHF's log has the status of a refusal, not its reason."""
        plan = self._plan
        reason = preflight.trial_reward(
            plan.facts.endpoint, plan.trial_prompts, plan.trial_labels, timeout_s=_ASK_AGAIN_S
        )
        now = f"; asked again, it says: {reason}" if reason else "; asked again, it answers: was it restarted?"
        return RewardLostError(
            f"no reward from {plan.config.reward_url}: the run was stopped rather than trained on something else. "
            f"Cause: {cause}{now}. Bring the service back, then go on with "
            f"`python trainer/run.py --resume --run-dir {plan.run.path}`."
        )


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question that the loop asks, so that nothing is left half-done."""
    asked: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def evaluate(plan: Plan) -> int:
    """Have the checkpoints judged, in a process of its own; return its exit status."""
    command = [sys.executable, "-m", "reward_evidence.evaluate", "--run-dir", str(plan.run.path)]
    command += ["--reward-url", plan.config.reward_url]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own module
