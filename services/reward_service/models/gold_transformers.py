"""Gold models that Transformers loads: any in a folder, complete or as a delta to a base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from reward_client.base_weights import file_digest, weights_revision
from reward_service.models.architectures import VALUE_HEAD_TOKENS, has_value_head_weights, load_reward_model
from reward_service.models.gated_head import RESPONSE_START, GatedReward
from reward_service.models.gold import HfGoldModel
from reward_service.models.gold_delta import (
    DELTA_FILE,
    WEIGHTS,
    DeltaConfig,
    check_names,
    gold_revision,
    read_delta_config,
)
from reward_service.models.gold_text import ChatText, GoldText, PairLengths, PairText
from reward_service.models.positions import max_positions
from reward_service.models.pretrained import AutoTokenizer
from reward_service.models.quiet import quiet_libraries

PAIR_KEY = "glassbox_text_pair"
"""Key in config.json that marks a text-pair model; its value has the four lengths of `PairText`."""


def load(spec: str, folder: Path, device: str, max_tokens: int, threads: int | None) -> HfGoldModel:
    """The model in `folder` on a torch device. Raises OSError, ValueError or KeyError."""
    if threads is not None:
        torch.set_num_threads(threads)
    quiet_libraries()
    place = torch.device(device)
    if (folder / DELTA_FILE).is_file():
        return _load_delta(spec, folder, place)
    return _load_whole(spec, folder, place, max_tokens)


def _load_whole(spec: str, folder: Path, device: torch.device, max_tokens: int) -> HfGoldModel:
    """A complete sequence-classification model in `folder`."""
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        raise ValueError("it has no *.safetensors file, and pickled weights are not supported; convert them")
    model = load_reward_model(folder, torch.bfloat16 if device.type == "cuda" else torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if isinstance(model, GatedReward):
        model.response_start = tokenizer(RESPONSE_START, add_special_tokens=False)["input_ids"]
    if has_value_head_weights(folder):
        max_tokens = min(max_tokens, VALUE_HEAD_TOKENS)
    text = _text(model, tokenizer, max_tokens)
    return HfGoldModel(model.to(device), text, id=spec, revision=gold_revision(map(file_digest, weights)))


def _load_delta(spec: str, folder: Path, device: torch.device) -> HfGoldModel:
    """A base model with its delta; small enough for float32 on any device."""
    config = read_delta_config(folder)
    base = config.base_folder(folder)
    model = load_reward_model(base, torch.float32, may_lack=config.whole, kept_layers=config.kept_layers)
    _apply_delta(model, folder, config)
    if config.frame:  # the frame's last token is read, which may be the one that the base pads with
        model.config.get_text_config().pad_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    return HfGoldModel(
        model.to(device),
        PairText(tokenizer, config.text_pair, config.frame).fitting(max_positions(model)),
        id=spec,
        revision=gold_revision([bytes.fromhex(weights_revision(base)), file_digest(folder / DELTA_FILE)]),
        notices=config.notices,
        encoder_base=config.base,
    )


def _text(model: Any, tokenizer: Any, max_tokens: int) -> GoldText:
    pair = getattr(model.config, PAIR_KEY, None)
    if pair is not None:
        return PairText(tokenizer, PairLengths.model_validate(pair)).fitting(max_positions(model))
    if not tokenizer.chat_template:
        raise ValueError(
            "its tokenizer has no chat template, so its input format is unknown; add the template that it was "
            f"trained with, or {PAIR_KEY!r} to its config.json if it reads text pairs"
        )
    return ChatText(tokenizer, min(max_tokens, max_positions(model) or max_tokens))


def _apply_delta(model: Any, folder: Path, config: DeltaConfig) -> None:
    """Add the delta in `folder` to `model`, which has the base's weights, in place."""
    delta = load_file(folder / DELTA_FILE)
    check_names(delta, config)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in config.changed:
            parameters[name] += delta[name].float()
        for name in config.lora:
            parameters[f"{name}.weight"] += delta[f"{name}.lora_b"].float() @ delta[f"{name}.lora_a"].float()
        for name in config.whole:
            parameters[name].copy_(delta[name])
