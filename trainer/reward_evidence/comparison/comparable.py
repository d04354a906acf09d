"""Whether runs can be compared: one gold model, one way of sampling, the same prompts.

Runs with other sampling or another gold model are an error that names what differs. Where the prompts differ, runs
are compared on those that all of them have, with a notice; a prompt that all runs evaluated was held out of all.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reward_evidence.comparison.runs import EvaluatedRun
from reward_runs.errors import EvaluationError

_SAME = {
    "gold": "the gold model",
    "samples": "the number of responses to a prompt",
    "temperature": "the temperature",
    "max_new_tokens": "the token limit",
    "system_prompt": "the system prompt",
}
"""Settings of an evaluation that runs must share, in words."""
_MAX_NAMES = 3


def check_settings(runs: Sequence[EvaluatedRun]) -> None:
    """Raise EvaluationError naming each setting in which the evaluations differ, with its values."""
    differing = [
        f"{words} is {found}"
        for name, words in _SAME.items()
        if (found := _values([(_text(run.evaluation.settings[name]), run.name) for run in runs]))
    ]
    if differing:
        raise EvaluationError(
            f"these runs cannot be compared: {'; '.join(differing)}. Evaluate them again with the same settings: "
            "`glassbox evaluate --run-dir DIR`"
        )


def other_golds(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Ids of the gold models beside the primary one that all runs were evaluated with, with the same weights."""
    found = [{(one["id"], one["revision"]): None for one in _golds(run)[1:]} for run in runs]
    return [model[0] for model in found[0] if all(model in of_run for of_run in found)]


def _golds(run: EvaluatedRun) -> Sequence[Mapping[str, str]]:
    golds: Sequence[Mapping[str, str]] = run.evaluation.settings.get("golds", [])
    return golds


def _values(found: Sequence[tuple[str, str]]) -> str:
    """`0.7 in a, b and 1 in c`; empty when all values are equal."""
    runs: dict[str, list[str]] = {}
    for value, run in found:
        runs.setdefault(value, []).append(run)
    if len(runs) < 2:
        return ""
    return " and ".join(f"{value} in {_names(names)}" for value, names in runs.items())


def _names(names: Sequence[str]) -> str:
    others = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {others} more" if others > 0 else "")


def _text(value: Any) -> str:
    if isinstance(value, dict):  # a model
        return f"{value['id']} ({value['revision']})"
    return "not set" if value is None else str(value)


def common_prompts(runs: Sequence[EvaluatedRun]) -> tuple[list[str], list[str]]:
    """The ids of the prompts that all `runs` evaluated, sorted, and a notice when some have others.

    Prompts are the same when id, text, query type and reference are. Raises EvaluationError when fewer than two
    are common.
    """
    prompts = [_prompts(run) for run in runs]
    common = set.intersection(*(set(found.items()) for found in prompts))
    ids = sorted(prompt_id for prompt_id, _ in common)
    numbers = ", ".join(f"{run.name} {len(found)}" for run, found in zip(runs, prompts, strict=True))
    if len(ids) < 2:
        same_ids = sorted(set.intersection(*(set(found) for found in prompts)) - set(ids))
        texts = f"; under the same id, {same_ids[0]!r} for example, they have other prompts" if same_ids else ""
        shared = "one prompt" if ids else "no prompts"
        raise EvaluationError(
            f"these runs have {shared} in common (prompts: {numbers}){texts}. "
            "Evaluate them on the same prompts, for training runs with the same --heldout"
        )
    if all(len(found) == len(ids) for found in prompts):
        return ids, []
    return ids, [f"Compared on the {len(ids)} prompts that all runs share. Prompts evaluated: {numbers}."]


def _prompts(run: EvaluatedRun) -> dict[str, str]:
    """Id → content of the run's prompts."""
    return {
        one.prompt_id: json.dumps([one.prompt, one.query_type, one.reference])
        for one in run.responses(run.steps[0])
    }
