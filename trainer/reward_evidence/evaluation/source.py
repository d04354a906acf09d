"""What an evaluation evaluates: a run directory, a folder of checkpoints, or a file of responses.

    from_run          RunReader ─────────────────────┐
    from_checkpoints  folder of Hugging Face folders ├─▶ EvaluationSource ─▶ EvaluationRun
    from_responses    JSON Lines, rows by step ──────┘

Only a run directory has a record: for the other two the recipe, the prompts and the folder for the results are
options of the command.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward_evidence.evaluation.evaluation import SourceKind
from reward_evidence.sampling.recorded import RecordedResponses, read_responses
from reward_runs.checkpoints import Checkpoint, find_checkpoints, has_chat_template, split_complete
from reward_runs.errors import EvaluationError, RunDirectoryError
from reward_runs.layout import RunDir
from reward_runs.prompts import Prompt
from reward_runs.record import RunReader

DEFAULT_MAX_NEW_TOKENS = 512
"""For a folder of checkpoints; the recipes assume responses of up to this length."""
DEFAULT_SEED = 42


@dataclass(frozen=True)
class EvaluationSource:
    """Prompts, and the checkpoints or recorded responses to evaluate on them."""

    kind: SourceKind
    name: str
    """Name of the run, in requests and in the report."""
    out: Path
    """Folder for the results."""
    prompts: tuple[Prompt, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    """Policies to sample from, by step."""
    recorded: tuple[RecordedResponses, ...] = ()
    """Recorded responses, by step."""
    incomplete: tuple[int, ...] = ()
    """Steps whose checkpoint was not written completely."""
    recipe: str | None = None
    """None: the default recipe of the service."""
    recipe_overrides: dict[str, Any] = field(default_factory=dict)
    trained_recipe_hash: str | None = None
    """Hash of the recipe when the training started."""
    planned_steps: int | None = None
    system_prompt: str | None = None
    apply_chat_template: bool = True
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    seed: int = DEFAULT_SEED
    reward_url: str | None = None
    policy: str | None = None
    """Model that was trained, a folder or a Hugging Face id; None: not recorded."""
    rollout_engine: str = "rollout engine: not recorded"

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps that can be evaluated."""
        return tuple(one.step for one in self.checkpoints or self.recorded)

    @property
    def initial(self) -> Checkpoint | None:
        """The policy before training; None when it is not among the checkpoints."""
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.step == 0), None)

    @property
    def prompts_sha256(self) -> str:
        """Hash of the prompts; for a run it is the hash of its `heldout.jsonl`."""
        return hashlib.sha256("".join(p.model_dump_json() + "\n" for p in self.prompts).encode()).hexdigest()


def from_run(path: Path) -> EvaluationSource:
    """Read a run directory; the results are written into it."""
    opened = RunReader.open(path)
    record = opened.record
    return EvaluationSource(
        kind="run",
        name=opened.run.name,
        out=opened.run.path,
        prompts=opened.prompts,
        checkpoints=opened.checkpoints,
        incomplete=tuple(checkpoint.step for checkpoint in opened.incomplete),
        recipe=record.recipe,
        recipe_overrides=record.recipe_overrides,
        trained_recipe_hash=record.recipe_hash,
        planned_steps=record.steps,
        system_prompt=record.system_prompt,
        apply_chat_template=record.apply_chat_template,
        max_new_tokens=record.max_new_tokens,
        seed=record.seed,
        reward_url=record.reward_url,
        policy=record.policy,
        rollout_engine=record.rollout_engine or "rollout engine: not recorded in config.json",
    )


def from_checkpoints(folder: Path, prompts: Sequence[Prompt], out: Path, **scoring: Any) -> EvaluationSource:
    """Read a folder with one Hugging Face folder per checkpoint, whose names contain the step.

    Args:
        folder: the folder.
        prompts: prompts to evaluate on.
        out: folder for the results.
        scoring: recipe, recipe_overrides and system_prompt, if not the defaults.
    """
    complete, incomplete = split_complete(find_checkpoints(folder))
    if not complete:
        raise RunDirectoryError(f"{folder}: every checkpoint in it is incomplete, or not in safetensors format")
    return EvaluationSource(
        kind="checkpoints",
        name=RunDir(folder).name,
        out=out,
        prompts=tuple(prompts),
        checkpoints=tuple(complete),
        incomplete=tuple(checkpoint.step for checkpoint in incomplete),
        apply_chat_template=has_chat_template(complete[0].path),
        **scoring,
    )


def from_responses(path: Path, out: Path, **scoring: Any) -> EvaluationSource:
    """Read a JSON Lines file of responses, with the fields in `sampling.recorded`; see `from_checkpoints`."""
    recorded = read_responses(path)
    prompts = {sample.prompt.id: sample.prompt for one in recorded for sample in one.samples}
    return EvaluationSource(
        kind="responses",
        name=RunDir(path.with_suffix("")).name,
        out=out,
        prompts=tuple(prompts.values()),
        recorded=tuple(recorded),
        rollout_engine="responses from a file",
        **scoring,
    )


def select_steps(source: EvaluationSource, steps: Sequence[int] | None) -> tuple[int, ...]:
    """Return `steps` in order, all when None; raise EvaluationError for a step that the source does not have."""
    if steps is None:
        return source.steps
    unknown = sorted(set(steps) - set(source.steps))
    if unknown:
        raise EvaluationError(
            f"no checkpoint of step {', '.join(map(str, unknown))}; there are {', '.join(map(str, source.steps))}"
        )
    return tuple(sorted(set(steps)))
