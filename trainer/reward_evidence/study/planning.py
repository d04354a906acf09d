"""The runs of a study: which there are, their names, groups and options. Pure.

Study ──plan_runs──▶ [PlannedRun], seed by seed, so that the first pass has every group once
PlannedRun ──train_command──▶ the command line of `glassbox train`
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reward_evidence.study.errors import StudyError
from reward_evidence.study.spec import Arm, Setting, Study, nearest

TRAIN = (sys.executable, "-m", "reward_client.cli", "train")


@dataclass(frozen=True)
class PlannedRun:
    """One run of `glassbox train`."""

    name: str
    """Name of its run directory."""
    group: str
    """Label in the comparison; the runs of a group differ only in their seed."""
    options: tuple[str, ...]
    """Options of `glassbox train`, without the run directory and the address of the service."""
    openrlhf_options: tuple[str, ...] = ()


def plan_runs(study: Study) -> list[PlannedRun]:
    """The runs in the order in which they start; raise StudyError when two groups have the same name."""
    arms = _arms(study)
    policies: list[str | None] = [*study.policies] or [None]
    groups = [(_group(arm, policy, study), arm, policy) for policy in policies for arm in arms]
    _check_names([label for label, _, _ in groups])
    if study.baseline is not None and study.baseline not in {label for label, _, _ in groups}:
        hint = nearest(study.baseline, {label for label, _, _ in groups})
        raise StudyError(f"baseline: the study has no group {study.baseline!r}; {hint}")
    return [
        PlannedRun(
            name=f"{_folder_name(label)}-seed-{seed}",
            group=label,
            options=_options(study, arm, policy, seed),
            openrlhf_options=tuple(study.openrlhf_options),
        )
        for seed in study.seeds
        for label, arm, policy in groups
    ]


def _arms(study: Study) -> list[Arm]:
    """The recipes, and the controls."""
    first = study.recipes[0]
    without_learning = first.model_copy(
        update={"label": f"{first.name}, no learning", "settings": {**first.settings, "learning_rate": 0}}
    )
    controls = {"learning_rate_0": without_learning, "gold": Arm(recipe="gold")}
    return [*study.recipes, *(controls[name] for name in study.controls)]


def _group(arm: Arm, policy: str | None, study: Study) -> str:
    return f"{arm.name}, {policy}" if len(study.policies) > 1 else arm.name


def _folder_name(label: str) -> str:
    return re.sub(r"[^\w.]+", "-", label).strip("-.")


def _check_names(labels: Sequence[str]) -> None:
    repeated = [label for label, n in Counter(labels).items() if n > 1]
    if repeated:
        raise StudyError(f"recipes: two groups are called {repeated[0]!r}; give one of them another label")
    folders = Counter(map(_folder_name, labels))
    same = [label for label in labels if folders[_folder_name(label)] > 1 or not _folder_name(label)]
    if same:
        raise StudyError(f"recipes: the labels {', '.join(map(repr, same))} give the same folder; change one")


def _options(study: Study, arm: Arm, policy: str | None, seed: int) -> tuple[str, ...]:
    options = ["--recipe", arm.recipe, "--seed", str(seed)]
    if policy is not None:
        options += ["--policy", policy]
    if arm.recipe_overrides:
        pairs = [f"{key}={_value(value)}" for key, value in sorted(arm.recipe_overrides.items())]
        options += ["--recipe-override", *pairs]
    for name, value in sorted({**study.settings, **arm.settings}.items()):
        options += _option(name, value)
    return tuple(options)


def _option(name: str, value: Setting) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    return [text for one in (value if isinstance(value, list) else [value]) for text in (option, str(one))]


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def launch_words(study: Study) -> list[str]:
    """What stands before the command of each run."""
    if study.ray is None:
        return study.launcher
    needs = ["--address", study.ray.address, "--cpus", str(study.ray.cpus), "--gpus", str(study.ray.gpus)]
    resources = json.dumps(study.ray.resources)
    return [sys.executable, "-m", "reward_trainer.on_ray", *needs, "--resources", resources, "--"]


def train_command(
    run: PlannedRun, run_dir: Path, url: str, *, resume: bool, train: Sequence[str] = TRAIN
) -> list[str]:
    """The command line that starts or resumes `run`."""
    where = ["--run-dir", str(run_dir), "--reward-url", url]
    if resume:
        return [*train, "--resume", *where]
    raw = ["--", *run.openrlhf_options] if run.openrlhf_options else []
    return [*train, *run.options, *where, *raw]
