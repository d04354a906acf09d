"""Reward models small enough to test with: random weights, one label, one token a byte (or a few words)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
)
"""Ends with a special token, so that a head that skipped it would be seen; knows no tool turns."""

PAIR_LENGTHS = {"prompt_head": 2, "prompt_tail": 3, "response_head": 4, "response_tail": 2}


def save_chat_model(folder: Path, *, pad: bool = True, template: bool = True, labels: int = 1) -> Path:
    """A Llama reward model; its tokenizer adds a first token by itself, as Llama's does."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHATML if template else None
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.convert_tokens_to_ids("<|pad|>") if pad else None,
        num_labels=labels,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """A tokenizer with one token a byte, ChatML's special ones, and a first token that it adds by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<|begin|>", "<|im_end|>", "<|im_start|>", "<|pad|>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin|>",  # noqa: S106 - a token of text
        eos_token="<|im_end|>",  # noqa: S106
        additional_special_tokens=["<|im_start|>", "<|pad|>"],
        clean_up_tokenization_spaces=False,
    )


def save_bert(folder: Path, *, head: bool, words: str = "", text_pair: bool = False, positions: int = 512) -> Path:
    """A BERT that knows `words`; without a head it is an encoder, a base to fit a gold model on."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(words.split()))]
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        initializer_range=0.2,
        num_labels=1,
    )
    model = BertForSequenceClassification(config)
    (model if head else model.bert).save_pretrained(folder)
    if text_pair:
        edit_json(folder / "config.json", glassbox_text_pair=PAIR_LENGTHS)
    return folder


def edit_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
