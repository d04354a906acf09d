"""What follows an evaluation: scalars, warnings, stop rules, and their lines in events.jsonl."""

import os
from collections.abc import Callable
from typing import Any

from reward_client.writing import OutputError
from reward_evidence.evaluation.evaluation import Evaluation, read_evaluation
from reward_evidence.report.formatting import plain
from reward_evidence.report.index import update_index
from reward_evidence.statistics.summary import CheckpointFigures
from reward_runs.errors import RunError
from reward_runs.events import RunEvent, add_event, read_events
from reward_runs.layout import RunDir
from reward_trainer.config import Config
from reward_trainer.live_evaluation import LiveEvaluation
from reward_trainer.stop_rules import StopRule
from reward_trainer.tracking import Tracking, scalars


class StoppedByRule(Exception):  # noqa: N818 - a request of the user, not an error
    """A stop rule ended the run; the message is its reason."""


class EvaluationLog:
    """Follows the evaluations of one run, whether they run beside the training or after it."""

    def __init__(self, config: Config, run: RunDir, log: Callable[[str], None]) -> None:
        self._run, self._log, self._n_steps = run, log, config.steps
        self._rules = [StopRule.parse(text) for text in config.stop_when]
        self._tracking = Tracking(config, run, os.environ)
        self._evaluation: Evaluation | None = None

    def follow(self, live: LiveEvaluation) -> None:
        """Start and finish evaluations beside the training, and read what they add; what fails is a note only."""
        try:
            if live.poll():
                self.read()
        except Exception as exc:  # noqa: BLE001 - nothing in an evaluation may end a training
            self._log(f"note: an evaluation beside the training failed: {type(exc).__name__}: {exc}")

    def read(self) -> None:
        """Log what the latest `evaluation.json` adds: checkpoints, scalars, warnings."""
        self._evaluation = evaluation = read_evaluation(self._run.path)
        known = {(event.kind, event.step, event.rule) for event in read_events(self._run)}
        for checkpoint in evaluation.checkpoints:
            if ("evaluated", checkpoint.step, None) not in known:
                for problem in self._tracking.log(checkpoint.step, scalars(checkpoint)):
                    self._log(f"note: {problem}")
                self._add("evaluated", checkpoint.step, _summary(checkpoint))
        for warning in evaluation.warnings:
            if ("warning", warning.step, warning.rule) not in known:
                self._add("warning", warning.step, warning.message, warning.rule)
        try:
            update_index(self._run.path.parent)
        except (OSError, OutputError, RunError) as exc:
            self._log(f"note: the list of runs was not written: {exc}")

    def check(self, steps: list[dict[str, Any]]) -> None:
        """Raise StoppedByRule when a rule applies and steps are left; `steps` are those of metrics.jsonl."""
        if steps and steps[-1]["step"] >= self._n_steps:
            return  # OpenRLHF saves the last step, and ends
        for rule in self._rules:
            if reason := rule.reason(self._evaluation, steps):
                step = steps[-1]["step"] if steps else 0
                self._add("stop", step, f"{rule.text}: {reason}", rule.text)
                raise StoppedByRule(f"{rule.text}: {reason}")

    def close(self) -> None:
        """Close the trackers."""
        for problem in self._tracking.close():
            self._log(f"note: {problem}")

    def _add(self, kind: Any, step: int, message: str, rule: str | None = None) -> None:
        add_event(self._run, RunEvent(kind=kind, step=step, rule=rule, message=message))
        if kind != "stop":  # the caller says it
            self._log(f"warning: step {step}: {message}" if rule else f"step {step} evaluated: {message}")


def _summary(checkpoint: CheckpointFigures) -> str:
    parts = [f"proxy {plain(checkpoint.proxy_reward.mean, 3)}"]
    if checkpoint.gold_reward:
        parts.append(f"gold {plain(checkpoint.gold_reward.mean, 3)}")
    parts.append(f"{plain(checkpoint.n_words.mean, 0)} words")
    if checkpoint.kl:
        parts.append(f"KL {plain(checkpoint.kl.mean, 2)}")
    return ", ".join(parts)
