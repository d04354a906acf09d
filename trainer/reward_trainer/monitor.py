"""Runs OpenRLHF and follows it until its last step: log, checkpoints, state of the service, stop requests.

every 0.5 s   stop requested? ─ new log lines ─▶ metrics.jsonl, progress line, checkpoints/, FailureDetector
every 5 s     probe of the reward service ─────▶ FailureDetector ─▶ None, or the cause to stop with

OpenRLHF requests a reward five times and ends later with the misleading message `reward_model_group is required`.
Only its INFO lines contain the cause, so they are parsed, and the service is probed as well.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from types import FrameType
from typing import Any

from reward_client.wire import FeatureInfo
from reward_evidence.report.formatting import duration
from reward_runs.errors import RewardUnavailableError, RunFailedError
from reward_runs.layout import StepMetrics
from reward_trainer import service_probe
from reward_trainer.evaluation_log import EvaluationLog
from reward_trainer.layout import Layout
from reward_trainer.live_evaluation import LiveEvaluation, evaluation_command
from reward_trainer.openrlhf import api_key, saved_policies
from reward_trainer.openrlhf.environment import child_environment, cpu_environment
from reward_trainer.openrlhf.failure import failure_cause, oom_kills
from reward_trainer.openrlhf.log_parser import failed_attempt, failed_reward, parse_step, phase_of
from reward_trainer.openrlhf.process import OpenRLHFProcess
from reward_trainer.plan import Plan

Log = Callable[[str], None]
"""Receives one line for the user."""

_POLL_S = 0.5
_PROBE_EVERY_S = 5.0
_MAX_RECENT_LINES = 2000
_DIAGNOSIS_TIMEOUT_S = 5.0
"""Seconds to wait for the service's own error message when the run is about to be stopped."""
MAX_UNAVAILABLE_S = 40.0
"""Seconds that the service may be unavailable before the run is stopped: enough for a restart, under a minute."""


@dataclass
class FailureDetector:
    """Decides when a run must stop because it gets no rewards. Pure: no clock, process or network."""

    _last_attempt: str | None = None
    """Cause of the latest failed attempt at a reward."""
    _unavailable_since_s: float | None = None

    def observe_line(self, line: str) -> str | None:
        """Process a log line; return the cause when the run must stop."""
        self._last_attempt = failed_attempt(line) or self._last_attempt
        failure = failed_reward(line)
        return None if failure is None else self._last_attempt or failure

    def observe_service(self, cause: str | None, now_s: float) -> str | None:
        """Process a probe (`cause` None: ready); return the cause when the run must stop."""
        if cause is None:
            self._unavailable_since_s = None
            return None
        if self._unavailable_since_s is None:
            self._unavailable_since_s = now_s
        unavailable_s = now_s - self._unavailable_since_s
        return None if unavailable_s < MAX_UNAVAILABLE_S else f"not ready for {unavailable_s:.0f} s: {cause}"


class StoppedByUser(Exception):  # noqa: N818 - a request, not an error
    """SIGINT or SIGTERM requested the run to stop."""


class Monitor:
    """One launch of OpenRLHF, from start to result."""

    def __init__(self, plan: Plan, log: Log, lock_fd: int, evaluation_log: EvaluationLog, *, resume: bool) -> None:
        self._plan = plan
        self._evaluation_log = evaluation_log
        config = plan.config
        command = evaluation_command(plan.run, config.reward_url, config.evaluation_device)
        self._live = LiveEvaluation(plan.run, command, log)
        self._log = log
        self._resume = resume
        self._lock_fd = lock_fd
        self._metrics = StepMetrics(plan.run.metrics)
        if not resume:
            self._metrics.clear()
        self._labels = feature_labels(plan.info.features)
        self._failures = FailureDetector()
        self._recent: deque[str] = deque(maxlen=_MAX_RECENT_LINES)
        self._earlier_oom_kills = oom_kills()
        self._phase: str | None = None
        earlier = self._metrics.steps
        self._started_s = time.monotonic() - (earlier[-1]["time_s"] if earlier else 0.0)
        self._next_probe_s = 0.0

    def run(self) -> None:
        """Run OpenRLHF to its last step.

        Raises RunFailedError when it ends before, RewardUnavailableError when the service stops answering,
        StoppedByUser, and StoppedByRule.
        """
        plan = self._plan
        with (
            _stop_requests() as stop_requested,
            OpenRLHFProcess(
                plan.command(resume=self._resume), self._environment(), plan.run.log, self._lock_fd
            ) as process,
        ):
            try:
                self._follow(process, stop_requested)
                self._finish_evaluation(stop_requested)
            finally:
                self._live.stop()
                process.stop()
                with suppress(RewardUnavailableError):  # the first one is being raised already
                    self._read(process)
                saved_policies.collect(plan.run)

    def _environment(self) -> dict[str, str]:
        environment = api_key.environment(child_environment(os.environ))
        config, hardware = self._plan.config, self._plan.hardware
        if hardware.has_gpu:
            return environment
        layout = Layout.of(config, hardware)
        return cpu_environment(
            environment,
            n_devices=layout.n_devices,
            n_threads=hardware.n_threads,
            rollouts_per_batch=config.rollouts_per_step // layout.n_engines,
        )

    def _follow(self, process: OpenRLHFProcess, stop_requested: Callable[[], bool]) -> None:
        while process.return_code is None:
            if stop_requested():
                raise StoppedByUser
            self._read(process)
            self._probe()
            if self._metrics.steps:
                self._evaluate_and_check()
            time.sleep(_POLL_S)
        self._read(process)
        done = self._metrics.steps[-1]["step"] if self._metrics.steps else 0
        if process.return_code != 0 or done < self._plan.config.steps:
            n_oom_kills = oom_kills() - self._earlier_oom_kills - self._live.n_killed
            cause = failure_cause(process.return_code, self._recent, n_oom_kills)
            run = self._plan.run
            raise RunFailedError(
                f"OpenRLHF ended after step {done}: {cause}\nits output: {run.log}\n"
                f"when the cause is removed, continue with: glassbox train --resume --run-dir {run.path}"
            )

    def _evaluate_and_check(self) -> None:
        """Evaluate what was saved meanwhile; raise StoppedByRule when a rule applies."""
        if self._plan.config.evaluate == "during":
            self._evaluation_log.follow(self._live)
        self._evaluation_log.check(self._metrics.steps)

    def _finish_evaluation(self, stop_requested: Callable[[], bool]) -> None:
        """Wait for the evaluation that is running, so that its work is not lost."""
        while self._live.is_running:
            if stop_requested():
                raise StoppedByUser
            self._evaluation_log.follow(self._live)
            if self._live.is_running:
                time.sleep(_POLL_S)

    def _read(self, process: OpenRLHFProcess) -> None:
        for line in process.new_lines():
            self._recent.append(line)
            if cause := self._failures.observe_line(line):
                raise self._reward_unavailable(cause)
            self._report(line)

    def _report(self, line: str) -> None:
        step = parse_step(line, has_reference_policy=self._plan.config.kl_coefficient > 0)
        if step is not None:
            self._metrics.add({**step, "time_s": round(time.monotonic() - self._started_s, 1)})
            self._log(step_line(self._metrics.steps, self._plan.config.steps, self._labels))
            saved_policies.collect(self._plan.run, before=step["step"])
        phase = phase_of(line)
        if phase is not None and phase != self._phase and not self._metrics.steps:
            self._phase = phase
            self._log(phase)

    def _probe(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_probe_s:
            return
        self._next_probe_s = now_s + _PROBE_EVERY_S
        cause = service_probe.why_not_ready(self._plan.config.reward_urls)
        if stop := self._failures.observe_service(cause, now_s):
            raise self._reward_unavailable(stop)

    def _reward_unavailable(self, cause: str) -> RewardUnavailableError:
        """Request a trial reward for the reason: OpenRLHF logs the status of an error, not its text."""
        plan = self._plan
        reason = service_probe.trial_reward(
            plan.launch.endpoint, plan.trial_prompts, plan.trial_labels, timeout_s=_DIAGNOSIS_TIMEOUT_S
        )
        now = f"a new request fails with: {reason}" if reason else "a new request succeeds: was it restarted?"
        return RewardUnavailableError(
            f"no reward from {plan.config.reward_url}, so the run was stopped. Cause: {cause}; {now}. "
            "Start the service again, then resume with "
            f"`glassbox train --resume --run-dir {plan.run.path}`."
        )


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM arrived; the loop checks it between two actions."""
    received: list[int] = []

    def record(number: int, _: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, record) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_LABELS_0_1 = {
    "length_incentive": "length",
    "repetition_penalty": "repetition",
    "relevance": "relevance",
    "gold_reward": "gold",
}
"""Labels for a service of release 0.1, whose `GET /info` does not list its features."""


def feature_labels(features: Sequence[FeatureInfo]) -> dict[str, str]:
    """Return the label of each log key of a feature; the key itself, as words, if several features share it."""
    if not features:
        return _LABELS_0_1
    keys = [feature.log_key for feature in features]
    return {
        feature.log_key: feature.label.lower()
        if keys.count(feature.log_key) == 1
        else feature.log_key.replace("_", " ")
        for feature in features
        if feature.log_key is not None
    }


def step_line(steps: Sequence[dict[str, Any]], n_steps: int, labels: Mapping[str, str]) -> str:
    """Return the line for the last of `steps` of `n_steps`, with the features in `labels`.

    Recent steps give the remaining time.
    """
    step = steps[-1]
    parts = [f"step {step['step']}/{n_steps}", f"reward {_formatted(step, 'reward', '.3f')}"]
    parts += [
        f"{label} {_formatted(step, name, '.2f')}" for name, label in labels.items() if step.get(name) is not None
    ]
    if step.get("kl") is not None:
        parts.append(f"KL {_formatted(step, 'kl', '.4f')}")
    parts.append(f"{_formatted(step, 'response_length', '.0f')} tokens")
    parts.append(f"{_formatted(step, 'truncated', '.0%')} truncated")
    if remaining := n_steps - step["step"]:
        times = [step["time_s"] for step in steps[-6:]]
        gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
        step_s = median(gaps) if gaps else step.get("step_s") or 0.0
        parts.append(f"about {duration(remaining * step_s)} left")
    return "  ".join(parts)


def _formatted(step: dict[str, Any], name: str, spec: str) -> str:
    value = step.get(name)
    return "?" if value is None else format(value, spec)
