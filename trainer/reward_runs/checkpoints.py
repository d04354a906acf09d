"""Folders of checkpoints in Hugging Face format: which step each one has, and whether it is complete."""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reward_runs.errors import RunDirectoryError

_WEIGHTS = "*.safetensors"
_SHARD = re.compile(r"(?P<stem>.+)-\d+-of-(?P<total>\d+)\.safetensors")
_STEP = re.compile(r"(?:step|checkpoint|ckpt|iter(?:ation)?)s?[-_]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Checkpoint:
    """The policy after `step` optimizer steps, as a Hugging Face folder."""

    step: int
    path: Path

    @cached_property
    def weights_sha256(self) -> str:
        """Hash over the hashes of the weight files, in the order of their names."""
        digest = hashlib.sha256()
        for path in sorted(self.path.glob(_WEIGHTS)):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def step_of(name: str) -> int | None:
    """Return the step in the name of a checkpoint folder, None if it is missing or ambiguous.

    Recognised: `000010`, `step-000010`, `checkpoint-10`, `global_step_10`, `global_step10_hf`, `iter_10`, …
    """
    if name.isdecimal():
        return int(name)
    found = _STEP.findall(name)
    return int(found[0]) if len(found) == 1 else None


def find_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints in the sub-folders of `folder`, by step.

    Raises RunDirectoryError for a folder without checkpoints, a name without a step, and two checkpoints of the
    same step.
    """
    if not folder.is_dir():
        raise RunDirectoryError(f"{folder} does not exist: name a folder with one sub-folder per checkpoint")
    by_step: dict[int, Path] = {}
    for path in sorted(path.parent for path in folder.glob("[!.]*/config.json")):
        step = step_of(path.name)
        if step is None:
            raise RunDirectoryError(
                f"{path}: the step cannot be read from the name {path.name!r}: rename the folder to step-NUMBER"
            )
        if step in by_step:
            raise RunDirectoryError(f"{by_step[step]} and {path} are both checkpoints of step {step}: remove one")
        by_step[step] = path
    if not by_step:
        hint = ": this is one checkpoint, name its parent folder" if (folder / "config.json").is_file() else ""
        raise RunDirectoryError(f"{folder} has no sub-folder with a Hugging Face model (config.json){hint}")
    return [Checkpoint(step, by_step[step]) for step in sorted(by_step)]


def split_complete(found: Sequence[Checkpoint]) -> tuple[list[Checkpoint], list[Checkpoint]]:
    """Return (complete, incomplete) checkpoints; the first one shows which tokenizer files belong to each."""
    complete = [checkpoint for checkpoint in found if is_complete(checkpoint.path, like=found[0].path)]
    return complete, [checkpoint for checkpoint in found if checkpoint not in complete]


def is_complete(folder: Path, *, like: Path) -> bool:
    """Return whether a checkpoint was written completely.

    Required: all safetensors files of the index and of a series, of their full size; JSON files that parse; and
    the tokenizer files that `like` has.
    """
    weights = list(folder.glob(_WEIGHTS))
    texts = list(folder.glob("*.json"))
    wanted = {"config.json"} | {file.name for file in like.glob("tokenizer*.json")}
    return (
        bool(weights)
        and wanted <= {file.name for file in texts}
        and all(_has_full_size(file) for file in weights)
        and all(_parses(file) for file in texts)
        and _has_every_shard(folder, {file.name for file in weights})
    )


def has_chat_template(folder: Path) -> bool:
    """Return whether the tokenizer in `folder` has a chat template."""
    if (folder / "chat_template.jinja").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))


def n_parameters(folder: Path) -> int:
    """Return the number of weights in a folder's safetensors files; 0 without such files."""
    headers = [_header(file)[1] for file in folder.glob(_WEIGHTS)]
    entries = [entry for header in headers for name, entry in header.items() if name != "__metadata__"]
    return sum(math.prod(entry["shape"]) for entry in entries)


def _header(file: Path) -> tuple[int, dict[str, dict[str, list[int]]]]:
    """Return (length, content) of the header of a safetensors file: 8 bytes of length, then JSON."""
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


def _has_every_shard(folder: Path, names: set[str]) -> bool:
    """Return whether `names` has the files in the index, and all of a series such as `-00001-of-00003`."""
    wanted: set[str] = set()
    for file in folder.glob("*.safetensors.index.json"):
        try:
            wanted |= set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
        except (AttributeError, KeyError, TypeError):
            return False
    for shard in filter(None, map(_SHARD.fullmatch, names)):
        stem, total = shard["stem"], shard["total"]
        wanted |= {f"{stem}-{index:0{len(total)}}-of-{total}.safetensors" for index in range(1, int(total) + 1)}
    return wanted <= names


def _parses(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
