"""Checkpoints as Hugging Face folders: the starting policy as step 0, and what OpenRLHF saves, moved into place.

A folder under `checkpoints/` is complete, because it gets there by one rename.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from reward_runs.layout import RunDir

__all__ = ["collect", "collect_final", "is_whole", "n_parameters", "save_initial"]

_SAVED = re.compile(r"global_step(\d+)_hf")
_WEIGHTS = "*.safetensors"


def save_initial(policy: str, run: RunDir) -> None:
    """Keep the starting policy as `checkpoints/000000`: hard links where possible, else copies."""
    target = run.checkpoint(0)
    if target.is_dir():
        return
    source = Path(policy) if Path(policy).is_dir() else _downloaded(policy)
    scratch = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            _link_or_copy(file, scratch / file.name)
    scratch.rename(target)


def _downloaded(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    return Path(snapshot_download(hub_id, allow_patterns=wanted))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)  # resolved: the hub's cache is made of symbolic links
    except OSError:
        shutil.copy2(source, target)


def collect(run: RunDir, *, before: int | None = None) -> list[int]:
    """Move saved policies into place; return their steps.

    Args:
        run: the run directory.
        before: take steps below this one, which are certainly written to their end; None, when OpenRLHF has ended,
            takes every one that is whole.
    """
    moved = []
    for folder in run.state.glob("global_step*_hf"):
        found = _SAVED.fullmatch(folder.name)
        if found is None or (before is not None and int(found[1]) >= before):
            continue
        if not is_whole(folder, like=run.checkpoint(0)):
            continue
        _move(folder, run.checkpoint(int(found[1])))
        moved.append(int(found[1]))
    return sorted(moved)


def collect_final(run: RunDir, step: int) -> None:
    """Make the policy that OpenRLHF saved at the end the checkpoint of `step`, unless there is one."""
    if run.final.is_dir() and not run.checkpoint(step).is_dir() and is_whole(run.final, like=run.checkpoint(0)):
        _move(run.final, run.checkpoint(step))


def _move(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():  # of an attempt before a resume, which went on from an earlier step
        shutil.rmtree(target)
    folder.rename(target)


def is_whole(folder: Path, *, like: Path) -> bool:
    """Return whether a saved policy was written to its end.

    That is: weights of their full size, JSON that parses, and the tokenizer's files that `like` has too.
    """
    weights = list(folder.glob(_WEIGHTS))
    texts = list(folder.glob("*.json"))
    wanted = {"config.json"} | {file.name for file in like.glob("tokenizer*.json")}
    return (
        bool(weights)
        and wanted <= {file.name for file in texts}
        and all(_has_full_size(file) for file in weights)
        and all(_parses(file) for file in texts)
    )


def _header(file: Path) -> tuple[int, dict[str, dict[str, list[int]]]]:
    """Return the header of a safetensors file and its length: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return 8 + length, json.loads(stream.read(length))


def _has_full_size(file: Path) -> bool:
    try:
        start, header = _header(file)
    except ValueError:
        return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return file.stat().st_size == start + max(ends, default=0)


def _parses(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def n_parameters(folder: Path) -> int:
    """Return the number of weights in a folder's safetensors files; 0 when it has none."""
    total = 0
    for file in folder.glob(_WEIGHTS):
        _, header = _header(file)
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for size in entry["shape"]:
                    count *= size
                total += count
    return total
