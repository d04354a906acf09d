"""Tiny Llama models with random weights and a tokenizer of single bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny_llama(folder: Path, *, chat: bool = True, seed: int = 0, max_shard_size: str = "5GB") -> Path:
    """Save a language model and its tokenizer to `folder` and return it; `seed` sets the weights."""
    from transformers import LlamaForCausalLM

    return _save(folder, LlamaForCausalLM, chat=chat, seed=seed, max_shard_size=max_shard_size)


def save_tiny_reward_model(folder: Path, *, seed: int = 1) -> Path:
    """Save a sequence-classification reward model and its tokenizer to `folder` and return it."""
    from transformers import LlamaForSequenceClassification

    return _save(folder, LlamaForSequenceClassification, chat=True, seed=seed, num_labels=1)


def _save(folder: Path, kind: Any, *, chat: bool, seed: int, max_shard_size: str = "5GB", **settings: Any) -> Path:
    import torch
    from transformers import LlamaConfig

    tokenizer = _tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=0,
        pad_token_id=0,
        bos_token_id=None,
        tie_word_embeddings=True,
        **settings,
    )
    torch.manual_seed(seed)
    kind(config).save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    end, start = special = ["<|im_end|>", "<|im_start|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=end,
        pad_token=end,
        additional_special_tokens=[start],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
