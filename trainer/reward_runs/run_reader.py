"""A run directory as its evaluation sees it: settings, held-out prompts, checkpoints.

Everything is read here, and every mistake in it named here, before a model is loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reward_evidence.evaluation.store import EvaluationError
from reward_runs.checkpoints import is_whole
from reward_runs.layout import RunDir
from reward_runs.prompts import Columns, Prompt, load_prompts

__all__ = ["Checkpoint", "RunConfig", "RunReader"]


class RunConfig(BaseModel):
    """What an evaluation needs of `config.json`; the report shows all of it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    recipe: str
    max_new_tokens: int = Field(ge=1)
    recipe_overrides: dict[str, Any] = {}
    recipe_hash: str | None = None
    """Of the recipe that the service had when the run started, without overrides."""
    steps: int | None = None
    """Steps that the run was to have."""
    seed: int = 0
    system_prompt: str | None = None
    apply_chat_template: bool = True
    reward_url: str | None = None
    rollout_engine: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The policy after `step` optimizer steps, as a Hugging Face folder."""

    step: int
    path: Path

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the hashes of the weight files, in order of their names."""
        digest = hashlib.sha256()
        for path in sorted(self.path.glob("*.safetensors")):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class RunReader:
    """`runs/NAME/`, checked when opened."""

    run: RunDir
    config: RunConfig
    prompts: tuple[Prompt, ...]
    prompts_sha256: str
    checkpoints: tuple[Checkpoint, ...]
    """Complete ones, by step."""
    incomplete: tuple[int, ...]
    """Steps whose checkpoint was not written to its end."""

    @classmethod
    def open(cls, path: Path) -> RunReader:
        """Read the run at `path`; raise `EvaluationError` when something that is needed is not there."""
        if not path.is_dir():
            raise EvaluationError(
                f"there is no run directory {path}: give the folder of a training run with --run-dir"
            )
        run = RunDir.at(path)
        config = _read_config(run.config)
        found = [Checkpoint(step, run.checkpoint(step)) for step in run.saved_steps()]
        whole = tuple(checkpoint for checkpoint in found if is_whole(checkpoint.path, like=found[0].path))
        if not whole:
            raise EvaluationError(f"{run.checkpoints} holds no complete checkpoint: has the run saved one yet?")
        return cls(
            run=run,
            config=config,
            prompts=_read_prompts(run.heldout_data),
            prompts_sha256=hashlib.sha256(run.heldout_data.read_bytes()).hexdigest(),
            checkpoints=whole,
            incomplete=tuple(checkpoint.step for checkpoint in found if checkpoint not in whole),
        )

    @property
    def evaluation(self) -> Path:
        """Folder of what was measured."""
        return self.run.path / "evaluation"

    def select(self, steps: Sequence[int] | None) -> tuple[Checkpoint, ...]:
        """Return the checkpoints of `steps`, all when None; raise `EvaluationError` for an unknown step."""
        if steps is None:
            return self.checkpoints
        by_step = {checkpoint.step: checkpoint for checkpoint in self.checkpoints}
        unknown = sorted(set(steps) - by_step.keys())
        if unknown:
            raise EvaluationError(
                f"no checkpoint of step {', '.join(map(str, unknown))}; there are {', '.join(map(str, by_step))}"
            )
        return tuple(by_step[step] for step in sorted(set(steps)))


def _read_config(path: Path) -> RunConfig:
    try:
        return RunConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise EvaluationError(f"{path} is missing: is {path.parent} the folder of a training run?") from exc
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(str(part) for part in error["loc"])
        raise EvaluationError(f"{path}: {where}: {error['msg']}") from exc


def _read_prompts(path: Path) -> tuple[Prompt, ...]:
    if not path.is_file():
        raise EvaluationError(
            f"the held-out prompts {path} are missing: the trainer writes them when a run starts"
        )
    return tuple(load_prompts(str(path), Columns()))
