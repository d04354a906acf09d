"""The values of a group of runs by seed, step and prompt, read from the evaluated responses, a run at a time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reward_evidence.comparison.runs import EvaluatedRun
from reward_evidence.evaluation.store import EvaluatedResponse
from reward_evidence.statistics.by_prompt import Measure, Responses, n_words
from reward_evidence.statistics.drivers import parts_by_prompt
from reward_evidence.statistics.monotonicity import FloatArray
from reward_runs.errors import EvaluationError

MEASURES: Mapping[str, Measure] = {
    "proxy": lambda r: r.proxy_reward,
    "gold": lambda r: r.gold_reward,
    "words": n_words,
    "tokens": lambda r: r.n_tokens,
    "truncated": lambda r: r.truncated,
    "kl": lambda r: r.kl,
}
"""Name → value of a response; None where it was not measured."""


def other_gold(model: str) -> str:
    """Name of the measure that is the score of a gold model beside the primary one."""
    return f"gold {model}"


@dataclass(frozen=True)
class GroupValues:
    """Runs that differ only in their seed, on the prompts of the comparison."""

    label: str
    runs: Sequence[EvaluatedRun]
    prompt_ids: Sequence[str]
    steps: Sequence[int]
    """Steps that all runs evaluated."""
    measures: Mapping[str, FloatArray]
    """(S, T, N), for the measures that every response has."""
    features: Mapping[str, FloatArray]
    """(S, T, N), NaN for the prompts that a feature does not apply to."""
    parts: Sequence[Mapping[str, FloatArray]]
    """For each run, factor → (N, 3): first value, last value, part of the proxy change; empty with one step."""
    examples: Mapping[str, EvaluatedResponse]
    """Prompt → the first run's first response of the last step."""


def read_group(
    label: str, runs: Sequence[EvaluatedRun], prompt_ids: Sequence[str], other_golds: Sequence[str] = ()
) -> GroupValues:
    """Read the responses of `runs`, with the scores of `other_golds` beside those of the primary gold model.

    Raises EvaluationError when the runs share no step or a file is missing.
    The responses of all common steps of one run are in memory together.
    """
    steps = sorted(set.intersection(*(set(run.steps) for run in runs)))
    if not steps:
        raise EvaluationError(f"the runs of {label} have no evaluated step in common: evaluate the same steps")
    wanted = {**MEASURES, **{other_gold(one): _gold_measure(one) for one in other_golds}}
    rows: dict[str, list[list[FloatArray]]] = {name: [] for name in wanted}
    features: list[list[dict[str, FloatArray]]] = []
    parts: list[Mapping[str, FloatArray]] = []
    examples: dict[str, EvaluatedResponse] = {}
    for run in runs:
        by_step = [_of_prompts(run.responses(step), prompt_ids) for step in steps]
        for name, measure in wanted.items():
            rows[name].append([_by_prompt(responses, measure, prompt_ids) for responses in by_step])
        features.append([_features(responses, prompt_ids) for responses in by_step])
        parts.append(parts_by_prompt(by_step[0], by_step[-1]) if len(steps) > 1 else {})
        for one in sorted(by_step[-1], key=lambda r: r.sample):
            examples.setdefault(one.prompt_id, one)
    stacked = {name: np.array(values) for name, values in rows.items()}
    return GroupValues(
        label=label,
        runs=runs,
        prompt_ids=prompt_ids,
        steps=steps,
        measures={name: values for name, values in stacked.items() if not np.isnan(values).any()},
        features=_stack(features, len(prompt_ids)),
        parts=parts,
        examples=examples,
    )


def _gold_measure(model: str) -> Measure:
    return lambda response: response.golds.get(model)


def _of_prompts(responses: Responses, prompt_ids: Sequence[str]) -> list[EvaluatedResponse]:
    wanted = set(prompt_ids)
    return [response for response in responses if response.prompt_id in wanted]


def _by_prompt(responses: Responses, measure: Measure, prompt_ids: Sequence[str]) -> FloatArray:
    """Mean of `measure` over the samples of each prompt, (N,); NaN where a sample does not have it."""
    found: dict[str, list[float]] = {prompt_id: [] for prompt_id in prompt_ids}
    for response in responses:
        value = measure(response)
        found[response.prompt_id].append(math.nan if value is None else value)
    return np.array([math.fsum(values) / len(values) for values in found.values()])


def _features(responses: Responses, prompt_ids: Sequence[str]) -> dict[str, FloatArray]:
    names = dict.fromkeys(name for response in responses for name in response.features)
    return {name: _by_prompt(responses, lambda r, name=name: r.features.get(name), prompt_ids) for name in names}  # type: ignore[misc]


def _stack(features: Sequence[Sequence[Mapping[str, FloatArray]]], n_prompts: int) -> dict[str, FloatArray]:
    names = dict.fromkeys(name for run in features for step in run for name in step)
    absent = np.full(n_prompts, math.nan)
    return {name: np.array([[step.get(name, absent) for step in run] for run in features]) for name in names}
