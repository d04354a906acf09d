"""The Hugging Face hub: rows of a data set, and models, found or downloaded. Its packages are optional."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx

from reward_client.rows import FileError, NumberedRow

_CONFIG = "config.json"
_TIMEOUT_S = 5.0
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]
"""Files of a model's repository: weights and tokenizer, not the weights in other formats."""


class HubError(Exception):
    """A model of the hub cannot be downloaded; the message has its id and the cause."""


def hub_rows(dataset_id: str, config: str | None, split: str) -> Iterator[NumberedRow]:
    """The numbered rows of one split. Raises FileError."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise FileError(
            "--hub needs the package `datasets`: pip install datasets; or download the rows as JSON lines"
        ) from None
    try:
        rows = load_dataset(dataset_id, config, split=split)
    except Exception as exc:
        raise FileError(f"the data set {dataset_id!r} of the hub cannot be loaded: {exc}") from exc
    yield from enumerate(rows, 1)


def model_problem(name: str) -> str | None:
    """Why there is no model `name`; None for a folder with a model, one in the hub's cache, or one of the hub.

    The hub is asked once, with a time limit. Libraries that load models ask again for a minute, and their messages
    do not say that a folder was expected.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return None if (folder / _CONFIG).is_file() else f"the folder contains no model: {_CONFIG} is missing"
    if folder.is_file():
        return "it is a file; name the folder of a model"
    return _hub_problem(name) if is_hub_id(name) else "there is no such folder"


def is_hub_id(name: str) -> bool:
    """Whether `name`, which is no folder, can be an id of the hub: OWNER/NAME or NAME."""
    return bool(name) and not name.startswith((".", "/", "~")) and name.count("/") <= 1


def model_snapshot(name: str) -> Path:
    """The folder of the model `name` in the hub's cache, downloaded when it is missing. Raises HubError."""
    from huggingface_hub import snapshot_download

    if problem := _hub_problem(name):
        raise HubError(f"{name}: {problem}")
    try:
        return Path(snapshot_download(name, allow_patterns=_DOWNLOADED))
    except (httpx.HTTPError, OSError, ValueError) as exc:
        message = f"{name} cannot be downloaded from the Hugging Face hub: {_cause(exc)}"
        raise HubError(f"{message}; without a network, name a folder") from exc


def _hub_problem(name: str) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        if isinstance(try_to_load_from_cache(name, _CONFIG), str):
            return None
        get_hf_file_metadata(hf_hub_url(name, _CONFIG), timeout=_TIMEOUT_S)
    except HFValidationError:
        return "there is no such folder, and an id of the Hugging Face hub is OWNER/NAME"
    except GatedRepoError:
        return "the Hugging Face hub requires that you accept its conditions, and a login: hf auth login"
    except RepositoryNotFoundError:
        return "there is no such folder, and the Hugging Face hub has no such model, or only after `hf auth login`"
    except EntryNotFoundError:
        return f"the repository on the Hugging Face hub contains no model: {_CONFIG} is missing"
    except OfflineModeIsEnabled:
        return "there is no such folder, and no such model in the hub's cache; HF_HUB_OFFLINE is set"
    except (httpx.HTTPError, OSError) as exc:
        return f"there is no such folder, and the Hugging Face hub cannot be reached: {_cause(exc)}"
    return None


def _cause(exc: Exception) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
