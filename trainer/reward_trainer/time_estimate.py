"""How long a run will take: from an earlier run with the same settings, else scaled from a measured one.

earlier runs beside the run directory ─▶ seconds of a step ─┐
on a CPU: weights × responses × tokens ─▶ seconds of a step ─┴─▶ × steps, with the basis in words
"""

import math
from dataclasses import dataclass
from statistics import median

from reward_evidence.report.formatting import duration
from reward_runs.errors import RunError
from reward_runs.layout import RunDir, read_metrics
from reward_runs.record import RunRecord
from reward_trainer.config import Config
from reward_trainer.hardware import Hardware

_SAME = (
    "policy",
    "prompts_per_step",
    "samples_per_prompt",
    "max_new_tokens",
    "estimator",
    "epochs_per_batch",
    "asynchronous",
    "nodes",
)
"""Settings that change the time of a step most."""
_MAX_EARLIER_RUNS = 50
_SAMPLING_S, _TRAINING_S = 40.0, 27.0
"""Seconds of a step of the demo: sampling and the rest, and training. Medians of 12 steps of SmolLM2-135M on two
cores of a shared machine, 2026-11-26, `make demo`."""
_DEMO_WORK = 135e6 * 16 * 128 / 2
"""Weights × responses × tokens of a response, for each core."""


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of a step, and where the figure comes from."""

    step_s: float | None
    """None: unknown."""
    basis: str

    def describe(self, steps: int) -> str:
        """The time of `steps` steps, in words."""
        if self.step_s is None:
            return f"unknown: {self.basis}"
        return f"about {duration(steps * self.step_s)}, {duration(self.step_s)} a step: {self.basis}"


def estimate_time(config: Config, hardware: Hardware, n_weights: int, run: RunDir) -> TimeEstimate:
    """Estimate the training without start, downloads and evaluation; `n_weights` is 0 when it is unknown."""
    for path in sorted(run.path.parent.glob("*/config.json"), reverse=True)[:_MAX_EARLIER_RUNS]:
        earlier = RunDir(path.parent)
        if earlier.path != run.path and (step_s := _seconds_of(earlier, config, hardware)) is not None:
            return TimeEstimate(step_s, f"the median of {earlier.path.name}, with the same settings and devices")
    if hardware.has_gpu or not n_weights:
        what = "no measurement on a GPU" if hardware.has_gpu else "the size of the policy is not known yet"
        return TimeEstimate(None, f"{what}, and no earlier run in {run.path.parent} has the same settings")
    work = n_weights * config.rollouts_per_step * config.max_new_tokens / hardware.n_threads
    models = 2 if config.estimator == "gae" else 1  # the critic is as large as the policy
    step_s = work / _DEMO_WORK * (_SAMPLING_S + _TRAINING_S * config.epochs_per_batch * models)
    return TimeEstimate(
        step_s, "a rough figure, scaled from the demo on two cores by weights, responses and tokens"
    )


def _seconds_of(run: RunDir, config: Config, hardware: Hardware) -> float | None:
    """Median seconds of a step of an earlier run; None if it has other settings or no steps."""
    try:
        record = RunRecord.read(run).content()
        steps = read_metrics(run.metrics)
    except (RunError, OSError, ValueError):
        return None
    wanted = {**{name: getattr(config, name) for name in _SAME}, "hardware": _devices(hardware)}
    if any(record.get(name) != value for name, value in wanted.items()):
        return None
    if bool(record.get("kl_coefficient")) != bool(config.kl_coefficient):
        return None
    seconds = [step["step_s"] for step in steps if isinstance(step.get("step_s"), float)]
    found = [value for value in seconds if math.isfinite(value) and value > 0]
    return median(found) if found else None


def _devices(hardware: Hardware) -> dict[str, int]:
    return {"n_gpus": hardware.n_gpus, "n_threads": hardware.n_threads}
