"""Language models for unit tests: random Llamas with two layers and a vocabulary of fifteen words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.unit.evidence_run import config, make_run

MAX_NEW_TOKENS = 12
SEEDS = {0: 0, 1: 1, 2: 0}
"""Seed of the weights of each step: step 1 differs from step 0, step 2 equals it."""

_END, _PAD, _UNKNOWN = "<end>", "<pad>", "the"
_TEXT = "the a rain falls on hills and rivers are made of"
_WORDS = [_PAD, _END, "user", "assistant", *_TEXT.split()]


def make_tiny_run(path: Path, n_prompts: int = 8) -> Path:
    """Write a run directory whose checkpoints can generate."""
    run = make_run(path, steps=(0,), n_prompts=n_prompts)
    shutil.rmtree(run / "checkpoints")
    (run / "config.json").write_text(json.dumps({**config(run), "max_new_tokens": MAX_NEW_TOKENS}))
    for step, seed in SEEDS.items():
        make_tiny_policy(run / "checkpoints" / f"{step:06d}", seed)
    return run


def make_tiny_policy(path: Path, seed: int) -> None:
    """Save a random model with a word-level tokenizer and a chat template."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(_WORDS)}, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD)
    fast.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"
    shape = LlamaConfig(
        vocab_size=len(_WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.6,
    )
    LlamaForCausalLM(shape).save_pretrained(path)
    fast.save_pretrained(path)
