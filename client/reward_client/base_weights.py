"""The base that a gold model is fitted on and served with: where it is, and the hash of its weights.

    model.safetensors                      SHA-256 of the file
    model.safetensors.index.json, shards   SHA-256 over those of the shards, in the order of their names
    an id of the Hugging Face hub          its snapshot in the hub's cache, downloaded when it is missing

Trainer and service use the same functions, so a base is recognised where it is served. Importing this module
imports no library that loads models.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from reward_client.embedded_models import WEIGHTS_FILE

INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
"""File that names the shards of weights that are in several files."""


class BaseWeightsError(ValueError):
    """There is no such base, or a file with its weights is missing; the message names it."""


def base_location(name: str, within: Path = Path()) -> Path:
    """The folder `name`, relative to `within`, or that of the snapshot of the hub id `name`.

    Raises BaseWeightsError.
    """
    from reward_client.hub import HubError, is_hub_id, model_snapshot

    if not name:
        raise BaseWeightsError("the name of the model is empty: name a folder or an id of the Hugging Face hub")
    folder = within / name
    if folder.is_dir():
        return folder
    if not is_hub_id(name):
        raise BaseWeightsError(f"there is no folder {folder.absolute()}")
    try:
        return model_snapshot(name)
    except HubError as exc:
        raise BaseWeightsError(str(exc)) from exc


def weights_files(folder: Path) -> list[Path]:
    """The files with the weights of the model in `folder`, in order of name. Raises BaseWeightsError."""
    index = folder / INDEX_FILE
    if (folder / WEIGHTS_FILE).is_file():
        files = [folder / WEIGHTS_FILE]
    elif index.is_file():
        files = [folder / name for name in _shard_names(index)]
    else:
        raise BaseWeightsError(f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}")
    if missing := next((file for file in files if not file.is_file()), None):
        raise BaseWeightsError(f"{missing}, which {INDEX_FILE} names, does not exist: copy it, or download again")
    return files


def weights_revision(folder: Path) -> str:
    """SHA-256 of the weights of the model in `folder`, hexadecimal. Raises BaseWeightsError."""
    digests = [file_digest(file) for file in weights_files(folder)]
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()).hex()


def _shard_names(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BaseWeightsError(f"{index} has no weight_map from parameters to files") from exc
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise BaseWeightsError(f"{index}: weight_map names no files of its folder")
    return names


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
