"""`comparison.json`: the figures of several evaluated runs side by side, pooled over the seeds of a group.

    label → runs ──▶ comparable? common prompts ──▶ GroupValues ──▶ GroupFigures, differences ──▶ Comparison

The primary figure, fixed beforehand, is the difference of mean final gold between two groups, paired by prompt. A
baseline restricts the comparisons to those with it; otherwise every pair is compared.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from reward_client.wire import FeatureInfo
from reward_evidence.comparison.comparable import check_settings, common_prompts, other_golds
from reward_evidence.comparison.differences import Difference, final_gold_differences
from reward_evidence.comparison.findings import Findings, describe
from reward_evidence.comparison.group_figures import GroupFigures, group_figures
from reward_evidence.comparison.measures import GroupValues, other_gold, read_group
from reward_evidence.comparison.runs import EvaluatedRun
from reward_evidence.evaluation.store import unique
from reward_runs.errors import EvaluationError
from reward_runs.events import stopped_by_rule
from reward_runs.layout import RunDir

FILE_NAME = "comparison.json"

METHOD = {
    "groups": "Runs of the same recipe and settings whose seeds differ. Only steps that all of them have count.",
    "means": "Samples of a prompt are averaged first, then prompts, then seeds.",
    "intervals": (
        "95 %, over seeds and prompts as crossed random effects: the variance between the seeds' means and that "
        "between the prompts' means, each with Student's quantile of its degrees of freedom. "
        "With one seed an interval covers the choice of prompts only."
    ),
    "primary figure": "Mean gold at the last step, one group minus another, paired by prompt; fixed beforehand.",
    "difference at equal length or truncation": (
        "Diagnostic, over prompts: final gold and words (or truncated share) are averaged over seeds: intercept "
        "of least squares over prompts, difference of gold on difference of the covariate; percentile bootstrap "
        "over prompts. It assumes one slope for all prompts and no other difference that goes with the covariate."
    ),
    "several differences": (
        "A p-value is the error rate at which the interval would end at zero. They are adjusted by Holm's method; "
        "a difference is stated when its adjusted p-value is at most 0.05. Intervals are not adjusted."
    ),
    "parts of the proxy change": (
        "Shapley values of the factors from the first step to the last, by run and prompt; they sum to the change."
    ),
    "ρ": (
        "Spearman's rank correlation of mean proxy and mean gold over at least four checkpoints; percentile "
        "bootstrap over seeds, then prompts. With few seeds its interval is too narrow."
    ),
}


_SHOWN = ("gold", "samples", "temperature", "max_new_tokens", "system_prompt")
"""Settings of an evaluation that a comparison repeats."""


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Comparison(_Figures):
    """The content of `comparison.json`."""

    created_at: str
    """ISO 8601, UTC."""
    n_prompts: int
    settings: dict[str, Any]
    """Sampling and gold model of the evaluations, the same for all runs."""
    baseline: str | None
    groups: list[GroupFigures]
    differences: list[Difference]
    other_gold_differences: dict[str, list[Difference]] = {}
    """By the id of a gold model beside the primary one; p-values are adjusted for its own differences."""
    findings: Findings
    notices: list[str]
    features: list[FeatureInfo]
    method: dict[str, str]

    @property
    def labels(self) -> dict[str, str]:
        """Names of features for people."""
        return {feature.name: feature.label for feature in self.features}


def compare(
    groups: Mapping[str, Sequence[EvaluatedRun]], baseline: str | None = None
) -> tuple[Comparison, list[GroupValues]]:
    """Compare groups of runs, by label; return the figures and the values that they are computed from.

    Raises EvaluationError when the runs cannot be compared, or `baseline` is not the label of a group.
    """
    if baseline is not None and baseline not in groups:
        raise EvaluationError(
            f"there is no group {baseline!r} to compare with; the groups are {', '.join(groups)}"
        )
    runs = [run for group in groups.values() for run in group]
    check_settings(runs)
    prompt_ids, notices = common_prompts(runs)
    golds = other_golds(runs)
    values = [read_group(label, group, prompt_ids, golds) for label, group in groups.items()]
    figures = [group_figures(one, golds) for one in values]
    differences = final_gold_differences(values, baseline)
    if golds:
        notices.append(
            f"Headline, differences and all other figures rest on the primary gold model alone, "
            f"{runs[0].evaluation.settings['gold']['id']}; listed beside it: {', '.join(golds)}."
        )
    notices = unique([*notices, *_notices(values), *(n for run in runs for n in run.evaluation.notices)])
    comparison = Comparison(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        n_prompts=len(prompt_ids),
        settings={name: runs[0].evaluation.settings[name] for name in _SHOWN},
        baseline=baseline,
        groups=figures,
        differences=differences,
        other_gold_differences={
            model: final_gold_differences(values, baseline, other_gold(model)) for model in golds
        },
        findings=describe(figures, differences, notices),
        notices=notices,
        features=_known_features(runs),
        method=METHOD,
    )
    return comparison, values


def _notices(values: Sequence[GroupValues]) -> list[str]:
    """What limits this comparison: other last steps, stop rules, a seed that is repeated, other policies."""
    notices = []
    for one in values:
        if len({run.steps[-1] for run in one.runs}) > 1:
            found = ", ".join(f"{run.name} {run.steps[-1]}" for run in one.runs)
            notices.append(
                f"The runs of {one.label} end at different steps ({found}): step {one.steps[-1]} is used."
            )
        seeds = [run.seed for run in one.runs if run.seed is not None]
        if len(set(seeds)) < len(seeds):
            notices.append(
                f"Some runs of {one.label} have the same seed: they do not show the variation between seeds."
            )
    if len({one.steps[-1] for one in values}) > 1:
        found = "; ".join(f"{one.label}: {one.steps[-1]}" for one in values)
        notices.append(f"The groups end at different steps ({found}). The final values are those of these steps.")
    runs = [run for one in values for run in one.runs]
    if stops := [(run.name, stop) for run in runs if (stop := stopped_by_rule(RunDir(run.folder)))]:
        found = "; ".join(f"{name}: {stop.message}" for name, stop in stops)
        notices.append(
            f"Ended by a stop rule: {found}. The last step of such a run depends on what was measured there, so "
            "its final values are selected, and the other runs of its group are compared at steps up to that one."
        )
    policies = {str(run.settings.get("policy")) for one in values for run in one.runs if run.settings is not None}
    if len(policies) > 1:
        notices.append(
            "The groups start from different policies, so a difference in final gold includes that of the start."
        )
    return notices


def _known_features(runs: Sequence[EvaluatedRun]) -> list[FeatureInfo]:
    return list({feature.name: feature for run in runs for feature in run.evaluation.features}.values())
