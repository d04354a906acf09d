"""Gold models stored as a difference to a base model: the changed tensors, and a config that names the base.

    delta.safetensors   trained − base for the `changed` parameters, and `whole` ones that the base lacks
    config.json         format, base, base_revision, changed, whole, text_pair, notices, and provenance

Format 2 is for decoders. It adds `kept_layers`, the number of the base's layers, from the lowest; `lora`, linear
layers with two matrices `NAME.lora_a` (rank, in) and `NAME.lora_b` (out, rank), whose product B A is added to
their weights; and `frame`, the tokens of the chat template around prompt and response.

`reward_trainer.fit_gold` writes such folders, and this module reads them. The base is an embedded model, a folder,
relative to the delta's folder, or an id of the Hugging Face hub. Its weights must be identical to those that the
delta was computed from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from reward_client.base_weights import base_location, weights_revision
from reward_client.embedded_models import (
    FAILURES,
    MINILM,
    SMOLLM2,
    embedded_folder,
    embedded_revision,
)
from reward_service.models.gold_text import Frame, PairLengths

WEIGHTS = "*.safetensors"
DELTA_FILE = "delta.safetensors"


class DeltaConfig(BaseModel):
    """`config.json` of a delta folder. Other fields, which are for people, are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal["glassbox-gold-delta/1", "glassbox-gold-delta/2"]
    base: str
    base_revision: str
    """SHA-256 of the base's weights, hexadecimal (`weights_revision`); of an embedded base, of its package's."""
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

    @property
    def is_on_embedded(self) -> bool:
        """Whether the model is the embedded encoder's BERT, with other weights and a head."""
        whole_base = self.frame is None and self.kept_layers is None and not self.lora
        return self.base == MINILM and whole_base

    def base_folder(self, folder: Path) -> Path:
        """Folder of the base's weights. Raises `ValueError` when their hash is not `base_revision`."""
        if self.base in (MINILM, SMOLLM2):
            try:
                self._check(embedded_revision(self.base), f"the package of {self.base}")
                return embedded_folder(self.base)
            except FAILURES as exc:
                raise ValueError(f"its base, {self.base}, cannot be used: {exc}") from exc
        base = base_location(self.base, folder)
        self._check(weights_revision(base), str(base))
        return base

    def _check(self, found: str, where: str) -> None:
        if found != self.base_revision:
            raise ValueError(
                f"it was fitted on {self.base} with the weights {self.base_revision[:12]}, and those in {where} "
                f"are {found[:12]}: install that version, or fit it again (glassbox fit-gold)"
            )


def read_delta_config(folder: Path) -> DeltaConfig:
    """The config of the delta in `folder`. Raises `ValueError` when it is invalid."""
    return DeltaConfig.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))


def check_names(delta: Collection[str], config: DeltaConfig) -> None:
    """Raise `ValueError` when the names in a delta are not those that its config has."""
    matrices = [name + end for name in config.lora for end in (".lora_a", ".lora_b")]
    if sorted(delta) != sorted(config.changed + config.whole + matrices):
        raise ValueError(f"{DELTA_FILE} does not contain the parameters that config.json names")


def gold_revision(digests: Iterable[bytes]) -> str:
    """Content hash of weights from those of their files, 12 hex digits."""
    return hashlib.sha256(b"".join(digests)).hexdigest()[:12]
