"""How the weights in a folder become a reward model with one score.

    …ForSequenceClassification of Transformers    as it is: Llama, Qwen, Gemma, Mistral, Phi, BERT, …
    weights with v_head.weight                    the same class; the head has another name (Starling-RM)
    LlamaForRewardModelWithGating                 GatedReward (ArmoRM)
    anything else                                 an error with the next step

Code that comes with a model is not run. So a model whose score is computed by such code is refused, even if its
weights fit a class of Transformers: the number would be another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open

from reward_service.models.gated_head import GatedReward
from reward_service.models.gold_delta import WEIGHTS
from reward_service.models.pretrained import AutoModelForSequenceClassification

VALUE_HEAD_TOKENS = 2048
"""Tokens of a conversation for a model with a value head, as the card of Starling-RM-34B truncates it."""

_GATED = "LlamaForRewardModelWithGating"
_VALUE_HEAD = "v_head.weight"
_VALUE_HEAD_NAMES = {r"^transformer\.": "model.", r"^v_head\.": "score."}
"""Names in weights with a value head, and in classifiers of Transformers."""
_HARMLESS = re.compile(r"(.*\.)?(lm_head\.|rotary_emb\.inv_freq|position_ids|masked_bias|attn\.bias)")
"""Weights that a score does not depend on."""
_SERVE_IT = (
    "serve it with vLLM or SGLang, and name that server: --gold 'vllm+http://HOST:8000?tokenizer=ID' "
    "(docs/how-to/use-a-gold-model.md)"
)


def load_reward_model(
    folder: Path, dtype: torch.dtype, may_lack: Sequence[str] = (), kept_layers: int | None = None
) -> Any:
    """The model in `folder`, in evaluation mode; `may_lack` are weights that are added later.

    Of a base whose upper layers are not used, only the first `kept_layers` are read.

    Raises:
        ValueError: the model has no score of its own, or one that needs code that is not here.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    is_gated = config.get("architectures") == [_GATED]
    if not is_gated:
        _check_architecture(config)
    kind: Any = GatedReward if is_gated else AutoModelForSequenceClassification
    has_value_head = has_value_head_weights(folder)
    options: dict[str, Any] = {"key_mapping": _VALUE_HEAD_NAMES} if has_value_head else {}
    if may_lack or has_value_head:
        options["num_labels"] = 1
    if kept_layers:
        options["num_hidden_layers"] = kept_layers
    model, loading = kind.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
    )
    _check_weights(config, loading, may_lack)
    if not is_gated and model.config.num_labels != 1:
        raise ValueError(
            f"it has {model.config.num_labels} labels, and a reward model has one: which of them, or which sum, "
            "is the score is not known here"
        )
    return model.eval()


def has_value_head_weights(folder: Path) -> bool:
    """Whether the weights have a head that is named as in models with a value head."""
    return any(_VALUE_HEAD in _names(file) for file in folder.glob(WEIGHTS))


def _names(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def _check_architecture(config: dict[str, Any]) -> None:
    """Raise ValueError for an architecture that Transformers lacks, or that comes as code."""
    names = config.get("architectures") or ["unknown"]
    known = config.get("model_type") in transformers.CONFIG_MAPPING and hasattr(transformers, str(names[0]))
    if not known or "AutoModelForSequenceClassification" in (config.get("auto_map") or {}):
        raise ValueError(
            f"its architecture {names[0]} needs code that comes with the model, which is never run here: "
            f"{_SERVE_IT}"
        )


def _check_weights(config: dict[str, Any], loading: dict[str, Any], may_lack: Sequence[str]) -> None:
    lacking = sorted(set(loading["missing_keys"]) - set(may_lack))
    if lacking:
        names = ", ".join(config.get("architectures") or ["no architecture"])
        raise ValueError(
            f"it is not a reward model: its weights lack {_shown(lacking)} ({names}). Name a sequence classifier "
            "with one label; a language model has no score"
        )
    unused = sorted(name for name in loading["unexpected_keys"] if not _HARMLESS.match(name))
    if unused and not may_lack:
        raise ValueError(
            f"its weights have {_shown(unused)}, which its architecture does not use, so its score is computed in "
            f"another way: {_SERVE_IT}"
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
