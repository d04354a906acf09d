"""Gold scores on the device, compared with plain Transformers one by one: every family, alone and in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from reward_service.models.gold import HfGoldModel
from reward_service.models.gold_text import ChatText, GoldText, PairLengths, PairText
from reward_service.models.load_gold import load_gold
from reward_service.models.protocols import Exchange, LocalGold, Tokens
from tools.gpu_check.gold_models import FAMILIES, SIZES, built
from tools.gpu_check.setting import Setting
from tools.gpu_check.texts import exchanges, items

Scores = NDArray[np.float64]
FP32_BAR = 1e-3
"""Allowed deviation in fp32, as a share of the scores' spread."""
ALONE_BAR = 1e-6
"""Allowed deviation of a single text from plain Transformers in the model's number format."""
NOISE_BAR = 2.0
"""Allowed error of a batch, as a multiple of the error of plain Transformers one by one in the same format.

The error is the root mean square of the deviation from fp32 scores.
"""
SLACK = 1e-3
"""Errors below this share of the scores' spread are ignored."""
MAX_TOKENS = 1024


def run(setting: Setting) -> None:
    """Every family in fp32 and in the format that the service loads; then the two sizes."""
    asked = exchanges(items(setting.size(24, 4), seed=2, words=setting.size(60, 20)))
    asked.append(Exchange(asked[0].messages, ""))
    for name in setting.size(list(FAMILIES), ["llama", "gemma2", "bert, text pair"]):
        _family(setting, name, built(name, setting.scratch, setting.device), asked)
    for name in SIZES:
        folder = built(name, setting.scratch, setting.device, small=setting.small)
        truth = np.array(_each(_in_fp32(folder, setting.device), asked))
        _as_loaded(setting, f"gold {name}", folder, asked, truth)


def _family(setting: Setting, name: str, folder: Path, asked: Sequence[Exchange]) -> None:
    cpu = load_gold(str(folder), "cpu")
    truth = np.array([_scores(cpu, [exchange])[0] for exchange in asked])
    spread = max(float(truth.std()), 1e-6)
    wide = _in_fp32(folder, setting.device)
    for how, found in (("batch", _scores(wide, asked)), ("alone", _each(wide, asked))):
        apart = float(np.abs(np.array(found) - truth).max()) / spread
        setting.note(f"gold {name} fp32, {how} - CPU, of the spread", apart, kept=apart <= FP32_BAR)
    _as_loaded(setting, f"gold {name}", folder, asked, truth)


def _as_loaded(setting: Setting, name: str, folder: Path, asked: Sequence[Exchange], truth: Scores) -> None:
    """The service's format on this device, compared with plain Transformers in that format, one by one."""
    gold = load_gold(str(folder), setting.device)
    dtype = torch.bfloat16 if setting.device == "cuda" else torch.float32
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).to(setting.device).eval()
    plain = np.array([_plain_score(model, gold.tokenize(exchange)) for exchange in asked])
    alone = float(np.abs(np.array(_each(gold, asked)) - plain).max())
    setting.note(f"{name} {gold.backend}, alone - plain Transformers", alone, kept=alone <= ALONE_BAR)
    spread = max(float(truth.std()), 1e-6)
    error, own = _rms(plain - truth) / spread, _rms(np.array(_scores(gold, asked)) - truth) / spread
    said = f"plain one by one {error:.2g}; spread {spread:.2g}, mean {truth.mean():.2g}"
    kept = own <= NOISE_BAR * error + SLACK
    setting.note(f"{name} {gold.backend}, batch: error, of the spread", own, note=said, kept=kept)


@torch.inference_mode()
def _plain_score(model: Any, tokens: Tokens) -> float:
    """One text by the model alone, without padding or mask."""
    inputs = {"input_ids": torch.tensor([list(tokens.input_ids)], device=model.device)}
    if tokens.token_type_ids is not None:
        inputs["token_type_ids"] = torch.tensor([list(tokens.token_type_ids)], device=model.device)
    return float(model(**inputs).logits[0, 0])


def _rms(apart: Scores) -> float:
    return float(np.sqrt((apart**2).mean()))


def _in_fp32(folder: Path, device: str) -> HfGoldModel:
    """The model in fp32 on the device, where the service uses bf16."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pair = getattr(model.config, "glassbox_text_pair", None)
    text: GoldText = (
        PairText(tokenizer, PairLengths.model_validate(pair)) if pair else ChatText(tokenizer, MAX_TOKENS)
    )
    return HfGoldModel(model, text, id=folder.name, revision="random")


def _scores(gold: LocalGold, asked: Sequence[Exchange]) -> list[float]:
    return gold.score([gold.tokenize(exchange) for exchange in asked])


def _each(gold: LocalGold, asked: Sequence[Exchange]) -> list[float]:
    return [_scores(gold, [exchange])[0] for exchange in asked]
