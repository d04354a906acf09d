"""Gold models with random weights: a small one of each supported family, and two of realistic sizes.

All read ChatML with one token per character, except the text-pair models, which know the words of their texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from reward_service.models.gold_text import PairLengths
from tests.gold_models import CHATML, byte_tokenizer


@dataclass(frozen=True)
class Kind:
    """How to build a model: a Transformers configuration and its arguments."""

    config: str
    numbers: dict[str, Any] = field(default_factory=dict)
    pair: bool = False


_TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}
_TINY_BERT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}

FAMILIES = {
    "llama": Kind("LlamaConfig", _TINY),
    "mistral, window 64": Kind("MistralConfig", _TINY | {"sliding_window": 64}),
    "qwen2": Kind("Qwen2Config", {key: value for key, value in _TINY.items() if key != "head_dim"}),
    "qwen3": Kind("Qwen3Config", _TINY),
    "gemma2": Kind("Gemma2Config", _TINY | {"query_pre_attn_scalar": 16, "sliding_window": 64}),
    "gemma3": Kind("Gemma3TextConfig", _TINY | {"query_pre_attn_scalar": 16, "sliding_window": 64}),
    "bert, text pair": Kind("BertConfig", _TINY_BERT, pair=True),
    "deberta-v2, text pair": Kind("DebertaV2Config", _TINY_BERT, pair=True),
}

SIZES = {
    "0.1 B": Kind(
        "LlamaConfig",
        {
            "vocab_size": 32_000,
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
        },
    ),
    "0.6 B": Kind(
        "Qwen3Config",
        {
            "vocab_size": 151_936,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 4096,
        },
    ),
}


def built(name: str, scratch: Path, device: str, *, small: bool = False) -> Path:
    """The folder of a model, built once per run; a dry run uses small models instead of those of `SIZES`."""
    folder = scratch / "".join(letter if letter.isalnum() else "-" for letter in name)
    if (folder / "ready").is_file():
        return folder
    kind = FAMILIES.get(name) or SIZES[name]
    numbers = dict(_TINY) | {"max_position_embeddings": 4096} if small and name in SIZES else dict(kind.numbers)
    _save(kind, numbers, folder, device if name in SIZES else "cpu", large=name in SIZES)
    (folder / "ready").touch()
    return folder


def _save(kind: Kind, numbers: dict[str, Any], folder: Path, device: str, *, large: bool) -> None:
    import transformers
    from transformers import AutoModelForSequenceClassification

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHATML
    if kind.pair:
        tokenizer.cls_token, tokenizer.sep_token = tokenizer.bos_token, tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    numbers.setdefault("vocab_size", len(tokenizer))
    config = getattr(transformers, kind.config)(
        **numbers,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
        num_labels=1,
    )
    if kind.pair:
        config.type_vocab_size = 2
        lengths = PairLengths(prompt_head=64, prompt_tail=64, response_head=200, response_tail=100)
        config.glassbox_text_pair = lengths.model_dump()
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForSequenceClassification.from_config(config)
    for name, weight in model.named_parameters():
        if name.startswith(("score", "classifier")) and weight.dim() > 1:  # scores about as wide as 1
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    (model.to(torch.bfloat16) if large else model).save_pretrained(folder)
