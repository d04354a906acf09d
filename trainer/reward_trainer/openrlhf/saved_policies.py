"""Moves policies that OpenRLHF saves into `checkpoints/`, and adds the initial policy as step 0.

Each folder in `checkpoints/` is complete, because it is created by a single rename.
"""

import os
import re
import shutil
from pathlib import Path

from reward_client.writing import writing
from reward_runs.checkpoints import is_complete
from reward_runs.errors import PolicyError
from reward_runs.layout import RunDir

_SAVED = re.compile(r"global_step(\d+)_hf")
_WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
"""Files of a policy on the model hub."""


def save_initial(policy: str, run: RunDir) -> None:
    """Save the initial policy as `checkpoints/000000`: hard links where possible, else copies.

    Raises OutputError, and PolicyError when a policy of the hub cannot be loaded.
    """
    target = run.checkpoint(0)
    if target.is_dir():
        return
    source = Path(policy) if Path(policy).is_dir() else _downloaded(policy)
    scratch = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    with writing(target):
        scratch.mkdir(parents=True)
        for file in source.iterdir():
            if file.is_file():
                _link_or_copy(file, scratch / file.name)
        scratch.rename(target)


def _downloaded(policy: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(policy, allow_patterns=_WANTED))
    except (OSError, ValueError) as exc:
        raise PolicyError(f"policy {policy!r} cannot be loaded from the hub: {exc}") from exc


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)  # resolved: the hub's cache consists of symbolic links
    except OSError:
        shutil.copy2(source, target)


def collect(run: RunDir, *, before: int | None = None) -> list[int]:
    """Move saved policies into `checkpoints/`; return their steps.

    Args:
        run: the run directory.
        before: take only steps below this one, which OpenRLHF has finished writing; None, after OpenRLHF has
            ended, takes all complete ones.
    """
    moved = []
    for folder in run.state.glob("global_step*_hf"):
        found = _SAVED.fullmatch(folder.name)
        if found is None or (before is not None and int(found[1]) >= before):
            continue
        if not is_complete(folder, like=run.checkpoint(0)):
            continue
        _move(folder, run.checkpoint(int(found[1])))
        moved.append(int(found[1]))
    return sorted(moved)


def collect_final(run: RunDir, step: int) -> None:
    """Use the policy that OpenRLHF saved at the end as the checkpoint of `step`, if that does not exist yet."""
    if run.final.is_dir() and not run.checkpoint(step).is_dir() and is_complete(run.final, like=run.checkpoint(0)):
        _move(run.final, run.checkpoint(step))


def _move(folder: Path, target: Path) -> None:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():  # from before a resume, which continued from an earlier step
            shutil.rmtree(target)
        folder.rename(target)
