"""The runs of a comparison: what each evaluation left on disk, and which runs differ only in their seed.

folders ──open_runs──▶ [EvaluatedRun] ──group_runs──▶ label → runs of the same recipe and settings
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_evidence.evaluation.evaluation import Evaluation, read_evaluation
from reward_evidence.evaluation.store import EvaluatedResponse, read_evaluated
from reward_runs.errors import EvaluationError
from reward_runs.layout import RunDir
from reward_runs.record import RunRecord

NOT_SETTINGS = frozenset(
    {
        *("schema_version", "seed", "run_dir", "reward_url", "tensorboard_dir", "wandb_project"),
        *("evaluate", "evaluate_device", "gold", "save_every", "mlflow_experiment"),  # what is logged and saved
        *("note", "tags", "stop_when"),  # the steps that are compared are those that all runs have
        *("recipe_parameters", "service", "command", "versions", "git_commit", "hardware", "nodes"),
        *("n_training_prompts", "n_heldout_prompts"),  # may depend on the seed
    }
)
"""Fields of a run's record in which two runs of one group may differ."""
_MAX_VALUE_CHARS = 40


@dataclass(frozen=True)
class EvaluatedRun:
    """A folder with an evaluation."""

    folder: Path
    name: str
    """Unique in a comparison."""
    evaluation: Evaluation
    seed: int | None
    """Seed of the training; None without a run's record."""
    settings: Mapping[str, Any] | None
    """What the training and the proxy depend on, without the seed; None without a run's record."""

    @property
    def steps(self) -> list[int]:
        """Evaluated steps, in order."""
        return [checkpoint.step for checkpoint in self.evaluation.checkpoints]

    def responses(self, step: int) -> list[EvaluatedResponse]:
        """The evaluated responses of `step`; raise EvaluationError when they are missing or changed."""
        return read_evaluated(self.folder, step)


def open_runs(folders: Sequence[Path]) -> list[EvaluatedRun]:
    """Read the evaluation in each folder; raise RunError when one is missing, or a folder is given twice."""
    repeated = [path for path, n in Counter(folder.resolve() for folder in folders).items() if n > 1]
    if repeated:
        raise EvaluationError(f"{repeated[0]} is given twice: name each run once")
    shared = {name for name, n in Counter(RunDir(folder).name for folder in folders).items() if n > 1}
    return [_open(folder, str(folder) if RunDir(folder).name in shared else None) for folder in folders]


def _open(folder: Path, name: str | None) -> EvaluatedRun:
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is not a folder: name run directories, or --out folders of evaluations")
    evaluation = read_evaluation(folder)
    record = RunRecord.read(RunDir(folder)) if evaluation.source == "run" else None
    return EvaluatedRun(
        folder=folder,
        name=name or RunDir(folder).name,
        evaluation=evaluation,
        seed=record.seed if record else None,
        settings=_settings(record, evaluation) if record else None,
    )


def _settings(record: RunRecord, evaluation: Evaluation) -> dict[str, Any]:
    settings = {name: value for name, value in record.content().items() if name not in NOT_SETTINGS}
    encoder = evaluation.settings["relevance"]
    return {
        **settings,
        "recipe_hash": evaluation.settings["recipe_hash"],
        "encoder": None if encoder is None else f"{encoder['id']} ({encoder['revision']})",
    }


def group_runs(runs: Sequence[EvaluatedRun]) -> dict[str, list[EvaluatedRun]]:
    """Put runs with equal settings into one group, in order of appearance; a run without a record is one alone.

    A label is the recipe, and the settings in which the group differs from most of the others.
    """
    groups: dict[str, list[EvaluatedRun]] = {}
    for run in runs:
        key = run.name if run.settings is None else json.dumps(run.settings, sort_keys=True)
        groups.setdefault(key, []).append(run)
    labels = _labels([group[0] for group in groups.values()])
    return dict(zip(labels, groups.values(), strict=True))


def _labels(runs: Sequence[EvaluatedRun]) -> list[str]:
    settings = [run.settings for run in runs if run.settings is not None]
    usual = {
        name: Counter(_text(known.get(name)) for known in settings).most_common(1)[0][0]
        for name in sorted({name for known in settings for name in known} - {"recipe", "recipe_hash"})
    }
    labels = [run.name if run.settings is None else _label(run.settings, usual) for run in runs]
    repeated = {label for label, n in Counter(labels).items() if n > 1}
    return [
        f"{label} ({run.name})" if label in repeated else label for label, run in zip(labels, runs, strict=True)
    ]


def _label(settings: Mapping[str, Any], usual: Mapping[str, str]) -> str:
    differing = [
        f"{name.replace('_', ' ')} {_text(settings.get(name))[:_MAX_VALUE_CHARS]}"
        for name, value in usual.items()
        if _text(settings.get(name)) != value
    ]
    return ", ".join([str(settings["recipe"]), *differing])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
