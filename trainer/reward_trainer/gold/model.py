"""The base that a gold model is fitted on: a BERT, or a decoder with a chat template.

folder ──▶ tokenizer, frame of the input ──▶ Base
       └─▶ lowest layers, a new head     ──▶ BertNet or CausalNet: two halves, the lower one frozen
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from reward_client.base_weights import BaseWeightsError, base_location, weights_revision
from reward_client.embedded_models import (
    MINILM,
    SMOLLM2,
    NotInstalledError,
    embedded_folder,
    embedded_revision,
)
from reward_runs.errors import ConfigError
from reward_trainer.gold.text import Frame, bert_frame, chat_frame


@dataclass(frozen=True)
class Base:
    """The model that a gold model starts from."""

    name: str
    """`all-MiniLM-L6-v2`, `smollm2-135m-instruct`, an absolute folder, or an id of the Hugging Face hub."""
    revision: str
    """SHA-256 of its weights, hexadecimal; of an embedded base, of its package's file."""
    tokenizer: Any
    model: Any
    """A Transformers `…ForSequenceClassification` with one label, in float32."""
    new_parameters: tuple[str, ...]
    """Parameters that the base does not have and that are initialised randomly, such as the classifier."""
    frame: Frame
    """Tokens around prompt and response."""
    kept_layers: int | None
    """Layers of the base that the model has, from the lowest; None for all."""

    @property
    def is_bert(self) -> bool:
        """Whether the model is a BERT; otherwise it is a decoder."""
        return bool(self.model.config.model_type == "bert")


class GoldNet(Protocol):
    """A sequence classifier in two halves: the upper one is trained, the lower one is frozen.

    That costs a fraction of a full backward pass, and the lower half's states can be computed once.
    """

    model: Any
    n_frozen: int
    """Layers of the lower half."""

    def lower(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the hidden states (B, T, D) below the trained layers, for inputs (B, T), without gradients."""
        ...

    def upper(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return scores (B,) from hidden states (B, T, D) and the mask (B, T) of tokens that are not padding."""
        ...


def trained_parameters(net: GoldNet) -> dict[str, torch.nn.Parameter]:
    """Return the trained parameters by name."""
    return {name: p for name, p in net.model.named_parameters() if p.requires_grad}


def score(net: GoldNet, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return scores (B,) of the complete model for inputs (B, T)."""
    return net.upper(net.lower(inputs), inputs["attention_mask"])


def load_base(name: str, kept_layers: int | None = None) -> Base:
    """Load an embedded base, a folder or a model of the Hugging Face hub, with its lowest `kept_layers` layers.

    Raises ConfigError unless it is a BERT or a decoder in safetensors format with at least that many layers.
    """
    folder, known_as, revision = _located(name)
    layers = _checked_layers(name, folder, kept_layers)
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **layers
        )
    except ValueError as exc:
        raise ConfigError(f"base {name!r} cannot be a sequence classifier: {exc}") from exc
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    is_bert = model.config.model_type == "bert"
    if not is_bert and not hasattr(model, "score"):
        raise ConfigError(
            f"base {name!r} is a {model.config.model_type} model; a base must be a BERT or a decoder"
        )
    frame = bert_frame(tokenizer) if is_bert else chat_frame(tokenizer)
    new_parameters = tuple(sorted(loading["missing_keys"]))
    return Base(known_as, revision, tokenizer, model, new_parameters, frame, kept_layers)


def _checked_layers(name: str, folder: Path, kept_layers: int | None) -> dict[str, int]:
    """Return the setting that keeps the lowest layers, if any."""
    if kept_layers is None:
        return {}
    available = AutoConfig.from_pretrained(folder).get_text_config().num_hidden_layers
    if not 1 <= kept_layers <= available:
        raise ConfigError(f"base {name!r} has {available} layers: --keep-layers must be from 1 to {available}")
    return {"num_hidden_layers": kept_layers}


def _located(name: str) -> tuple[Path, str, str]:
    """Return the folder of the base, and the name and revision that config.json gives it."""
    embedded = {"minilm": MINILM, MINILM.lower(): MINILM, SMOLLM2: SMOLLM2}.get(name.lower())
    if embedded:
        try:
            return embedded_folder(embedded), embedded, embedded_revision(embedded)
        except NotInstalledError as exc:
            raise ConfigError(str(exc)) from exc
    try:
        folder = base_location(name).resolve()
        known_as = str(folder) if Path(name).is_dir() else name
        return folder, known_as, weights_revision(folder)
    except BaseWeightsError as exc:
        raise ConfigError(
            f"base {name!r}: {exc}; choose 'minilm', '{SMOLLM2}', or a folder or hub id of a BERT or a decoder in "
            "safetensors format"
        ) from exc
