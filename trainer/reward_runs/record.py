"""The record of a run, `config.json`: written when the run starts, read by whatever inspects the run later.

    RunRecord.write(run) ──▶ config.json {"schema_version": 1, …} ──▶ RunRecord.read(run)
                                     version 0 (glassbox-reward 0.1.0, no such field) ──▶ migrated
                                     a version above 1 ──▶ RunDirectoryError

Fields that the evaluation, the report or a resumed run depends on are declared here. Further settings of the
trainer (batch sizes, optimizer, …) are kept under the names that the trainer gives them. `RunReader` adds what
else a finished or interrupted run left: held-out prompts and checkpoints.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reward_client import __version__
from reward_client.errors import validation_errors
from reward_runs.checkpoints import Checkpoint, split_complete
from reward_runs.errors import RunDirectoryError
from reward_runs.files import replace_text
from reward_runs.layout import RunDir
from reward_runs.prompts import Columns, Prompt, load_prompts

SCHEMA_VERSION = 1
"""Version that this release writes. Increase it, and add a migration, when a field is renamed or redefined."""

MOVED = "this address is that of the run's record: if the service is at another one now, name it with --reward-url"
"""End of the message when the service of a run does not answer, and the user has named no other."""


class RunRecord(BaseModel):
    """Everything that `config.json` of a run contains."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: int = SCHEMA_VERSION

    note: str | None = None
    tags: list[str] = []
    """Words of the user that describe the run."""
    policy: str | None = None
    """Model that was trained: a folder or a Hugging Face id."""
    steps: int | None = Field(default=None, ge=1)
    """Planned steps."""
    prompts_per_step: int | None = Field(default=None, ge=1)
    seed: int = 0
    system_prompt: str | None = None
    apply_chat_template: bool = True
    max_new_tokens: int = Field(ge=1)

    reward_url: str | None = None
    """Address of the reward service, without path and key."""
    recipe: str
    recipe_overrides: dict[str, Any] = {}
    recipe_hash: str | None = None
    """Hash of the recipe at the start of the run, without the overrides."""
    recipe_parameters: dict[str, Any] | None = None
    """Parameters of the recipe at the start of the run, without the overrides."""
    service: dict[str, Any] = {}
    """Reply of `GET /info` at the start of the run."""

    rollout_engine: str | None = None
    command: list[str] = []
    """Command line of the training framework."""
    versions: dict[str, str] = {}
    git_commit: str | None = None
    hardware: dict[str, int] = {}
    n_training_prompts: int | None = None
    """Prompts of the source; `training_prompts` says how many of them were used."""
    n_heldout_prompts: int | None = None

    @classmethod
    def read(cls, run: RunDir) -> Self:
        """Read `config.json`; raise RunDirectoryError naming the file and, where one is invalid, the field."""
        path = run.config
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise RunDirectoryError(f"{run.path} is not a run directory: {path.name} is missing") from exc
        except OSError as exc:
            raise RunDirectoryError(f"{path} cannot be read: {exc.strerror}") from exc
        except ValueError as exc:
            raise RunDirectoryError(f"{path}: not valid JSON: {exc}") from exc
        if not isinstance(content, dict):
            raise RunDirectoryError(f"{path}: not a JSON object")
        try:
            return cls.model_validate(_migrated(content, str(path)))
        except ValidationError as exc:
            raise RunDirectoryError(f"{path}: {validation_errors(exc)[0]}") from exc

    def write(self, run: RunDir) -> None:
        """Replace `config.json`."""
        replace_text(run.config, json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")

    def content(self) -> dict[str, Any]:
        """Return the fields that the file contains, without the defaults of absent ones."""
        return self.model_dump(mode="json", exclude_unset=True)

    def training_prompts(self, n_steps: int) -> str:
        """State how many of the prompts `n_steps` trained on; empty if the record has no such figures.

        A step takes `prompts_per_step` rows of data/train.jsonl, in which a prompt is repeated only after all
        others. OpenRLHF shuffles the rows, so before the last step a repeated prompt may have come early.
        """
        n, per_step, planned = self.n_training_prompts, self.prompts_per_step, self.steps
        if n is None or per_step is None or planned is None:
            return ""
        at_most = "at most " if n_steps < planned and planned * per_step > n else ""
        return f"trained on {at_most}{min(n_steps * per_step, n)} of {n} prompts"


_MIGRATIONS: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    0: lambda content: {
        **content,
        "schema_version": 1,
    }  # glassbox-reward 0.1.0: the same fields, without a version
}
"""Version to the function that returns the content in the next version."""


def _migrated(content: dict[str, Any], path: str) -> dict[str, Any]:
    version = content.get("schema_version", 0)
    if not isinstance(version, int) or version < 0:
        raise RunDirectoryError(f"{path}: schema_version: expected a number from 0, got {version!r}")
    if version > SCHEMA_VERSION:
        raise RunDirectoryError(
            f"{path} has schema_version {version}, and glassbox-reward {__version__} reads versions "
            f"up to {SCHEMA_VERSION}: upgrade glassbox-reward to the release that wrote the run"
        )
    for known in range(version, SCHEMA_VERSION):
        content = _MIGRATIONS[known](content)
    return content


def trained_policy(policy: str) -> str:
    """The policy that a run trained, if `policy` is the folder of one of its checkpoints; else `policy` itself."""
    folder = Path(policy).expanduser()
    if not folder.is_dir():
        return policy
    folder = folder.resolve()
    if folder.parent.name == "checkpoints":
        with suppress(RunDirectoryError):
            return RunRecord.read(RunDir(folder.parents[1])).policy or str(folder)
    return str(folder)


def is_finished(run: RunDir) -> bool:
    """Whether the policy after the last planned step is saved; False for a run without a readable record."""
    try:
        steps = RunRecord.read(run).steps
    except RunDirectoryError:
        return False
    return steps is not None and run.checkpoint(steps).is_dir()


@dataclass(frozen=True)
class RunReader:
    """`runs/NAME/`, checked when it is opened."""

    run: RunDir
    record: RunRecord
    prompts: tuple[Prompt, ...]
    """Held-out prompts."""
    checkpoints: tuple[Checkpoint, ...]
    """Complete checkpoints, by step."""
    incomplete: tuple[Checkpoint, ...]
    """Checkpoints that were not written completely."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the run at `path`; raise RunDirectoryError or DataError when a part is missing or invalid."""
        if not path.is_dir():
            raise RunDirectoryError(
                f"the run directory {path} does not exist: name the folder of a training run with --run-dir"
            )
        run = RunDir(path)
        record = RunRecord.read(run)
        found = [Checkpoint(step, run.checkpoint(step)) for step in run.saved_steps()]
        complete, incomplete = split_complete(found)
        if not complete:
            raise RunDirectoryError(
                f"{run.checkpoints} contains no complete checkpoint: wait until the run has saved one"
            )
        if not run.heldout_data.is_file():
            raise RunDirectoryError(
                f"the held-out prompts {run.heldout_data} are missing: the trainer writes them when a run starts"
            )
        prompts = tuple(load_prompts(str(run.heldout_data), Columns()))
        return cls(run, record, prompts, tuple(complete), tuple(incomplete))
