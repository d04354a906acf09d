"""What OpenRLHF's log lines mean: step metrics, phases, failed rewards, exceptions. Written for openrlhf 0.11.2.

OpenRLHF also writes the metrics to TensorBoard, but its writer buffers them for up to two minutes and loses them
when the run is killed; the log line is written immediately. A test compares the two.
"""

import math
import re
from collections.abc import Iterable

from reward_runs.layout import Step

_STEP = re.compile(r"Global step (?P<step>\d+): \{(?P<metrics>.*)\}")
_METRIC = re.compile(r"'(?P<name>[^']+)': (?P<value>-?(?:nan|inf|\d[\d.]*(?:e[+-]?\d+)?))")
_FAILED_ATTEMPT = re.compile(r"(?:Request error|Unexpected error), please check: (?P<cause>.*)")
_FAILED_REWARD = re.compile(r"Failed to fetch reward from remote RM: (?P<cause>.*)")
_EXCEPTION = re.compile(
    r"^(?:\x1b\[\d+m)?(?:\(.*?pid=.*?\)(?:\x1b\[0m)?)?\s*(?P<error>[\w.]*(?:Error|Exception)\b.*)"
)
_IGNORED = "Exception ignored in"
"""Python's heading of an exception that ended nothing, usually while it exits."""
_WRAPPERS = ("ray.exceptions.RayTaskError", "Exception in thread")
"""Beginnings of lines that only announce an exception; its own line is another one."""
_MAX_ERROR_CHARS = 500

_NAMES = {
    "rollout/reward_mean": "reward",
    "rollout/reward_std": "reward_std",
    "rollout/response_length_mean": "response_length",
    "rollout/truncated_rate": "truncated",
    "actor_grad_norm": "grad_norm",
    "actor_lr": "learning_rate",
    "timing/generation": "generation_s",
    "timing/make_experience": "experience_s",
    "timing/ppo_train": "training_s",
    "timing/broadcast": "weight_sync_s",
    "timing/step_total": "step_s",
}
"""OpenRLHF's names to the names in metrics.jsonl. Lengths are in tokens."""

_DROPPED = frozenset({"rollout/num_samples", "score", "response_clip_ratio", "total_length", "logprobs_diff"})
_ONLY_WITH_REFERENCE_POLICY = frozenset({"kl"})

_MEASURED = "_measured"
_PHASES = (
    ("Started a local Ray instance", "Ray is up; loading the models (about a minute on two cores)"),
    ("Episode [1/1]:   0%", "models are loaded; sampling the first responses"),
    ("Starting experience making", "rewards received; computing log-probabilities"),
    ("Train epoch [1/", "training"),
)


def parse_step(line: str, *, has_reference_policy: bool) -> Step | None:
    """Return the metrics in a line of OpenRLHF's log; None for other lines.

    Without a reference policy OpenRLHF reports a KL of 0 that was not measured, so it is dropped.
    """
    found = _STEP.search(line)
    if found is None:
        return None
    raw = {match["name"]: float(match["value"]) for match in _METRIC.finditer(found["metrics"])}
    dropped = _DROPPED if has_reference_policy else _DROPPED | _ONLY_WITH_REFERENCE_POLICY
    # Means over all rollouts are last, so that they replace OpenRLHF's means over training batches.
    ordered = sorted(raw, key=lambda name: (name in _NAMES, name))
    metrics = _means_where_measured({_NAMES.get(name, name): raw[name] for name in ordered if name not in dropped})
    finite = {name: value if math.isfinite(value) else None for name, value in sorted(metrics.items())}
    return {"step": int(found["step"]), **finite}


def _means_where_measured(means: dict[str, float]) -> dict[str, float]:
    """Replace means over all rollouts, of which some count as 0 without a value, by means over those with one.

    The service logs `KEY_measured` beside such a `KEY`: the share of rollouts with a value. Without any, the mean
    is NaN.
    """
    shares = {name.removesuffix(_MEASURED): share for name, share in means.items() if name.endswith(_MEASURED)}
    kept = {name: mean for name, mean in means.items() if not name.endswith(_MEASURED)}
    corrected = {
        name: kept[name] / share if share > 0 else math.nan for name, share in shares.items() if name in kept
    }
    return kept | corrected


def phase_of(line: str) -> str | None:
    """Return the phase of the run that begins with this line, described for the user."""
    return next((phase for marker, phase in _PHASES if marker in line), None)


def failed_attempt(line: str) -> str | None:
    """Return the cause of one failed reward request, which OpenRLHF will repeat; None for other lines."""
    found = _FAILED_ATTEMPT.search(line)
    return found["cause"].strip() if found else None


def failed_reward(line: str) -> str | None:
    """Return OpenRLHF's message after its last failed attempt at a reward; None for other lines."""
    found = _FAILED_REWARD.search(line)
    return found["cause"].strip() if found else None


def last_error(lines: Iterable[str]) -> str | None:
    """Return the last line that names a Python exception, shortened; without one, a line that announces one."""
    found: dict[bool, str] = {}
    ignoring = False
    for line in lines:
        match = _EXCEPTION.match(line)
        if _IGNORED in line:
            ignoring = True
        elif match is not None and ignoring:
            ignoring = False  # the exception that is ignored
        elif match is not None:
            error = match["error"].strip()
            found[error.startswith(_WRAPPERS)] = error
    error = found.get(False) or found.get(True)
    return error if error is None or len(error) <= _MAX_ERROR_CHARS else f"{error[:_MAX_ERROR_CHARS]} …"
