"""Find, check and load a gold model.

    "demo-gold"            ──▶ the folder of this package ──┐   delta.safetensors ──▶ base + delta, text pair
    a folder               ─────────────────────────────────┼─▶ else *.safetensors ──▶ chat template, or text pair
    a Hugging Face hub id  ──▶ snapshot (no pickle files) ──┘                          if config.json has PAIR_KEY

Only safetensors files are read, and no code from the model's repository is executed.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from reward_client.wire import ChatMessage
from reward_service.errors import ConfigurationError
from reward_service.models.architectures import (
    VALUE_HEAD_TOKENS,
    WEIGHTS,
    has_value_head_weights,
    load_reward_model,
)
from reward_service.models.gated_head import RESPONSE_START, GatedReward
from reward_service.models.gold import HfGoldModel
from reward_service.models.gold_delta import DELTA_FILE, apply_delta, read_delta_config
from reward_service.models.gold_text import ChatText, GoldText, PairLengths, PairText
from reward_service.models.positions import max_positions
from reward_service.models.pretrained import AutoTokenizer
from reward_service.models.protocols import Exchange
from reward_service.models.quiet import quiet_libraries
from reward_service.settings import DEMO_GOLD

MAX_TOKENS = 4096
"""Maximum tokens of a rendered conversation for a chat model; limited by the model's positions, too."""

PAIR_KEY = "glassbox_text_pair"
"""Key in config.json that marks a text-pair model; its value has the four lengths of `PairText`."""

logger = logging.getLogger(__name__)

_EXCHANGE = Exchange((ChatMessage(role="user", content="Hello?"),), "Yes, hello.")
_DOWNLOADED = [WEIGHTS, "*.json", "*.jinja", "*.txt", "*.model"]


class GoldLoadError(ConfigurationError):
    """The gold model cannot be loaded; the message names the model, the cause and the next step."""


def load_gold(spec: str, device: str | None = None, *, max_tokens: int = MAX_TOKENS) -> HfGoldModel:
    """Load a gold model, ready to score.

    Args:
        spec: `demo-gold`, a local folder, or a Hugging Face hub id such as `Skywork/Skywork-Reward-V2-Qwen3-0.6B`.
        device: torch device; when None, CUDA if available, else the CPU. bfloat16 on CUDA, float32 elsewhere.
        max_tokens: maximum tokens of a conversation for a chat model; a longer one is truncated on the left.

    Raises:
        GoldLoadError: the model is not available, is not a reward model, or its files do not match its config.
    """
    quiet_libraries()
    folder = _folder(spec)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        is_delta = (folder / DELTA_FILE).is_file()
        gold = _load_delta(spec, folder, place) if is_delta else _load_whole(spec, folder, place, max_tokens)
        _check_score(gold)
        logger.info("gold model %s runs on %s by %s", spec, place, gold.backend)
        return gold  # noqa: TRY300 - the errors of all steps are those of loading
    except (OSError, ValueError, KeyError) as exc:
        raise GoldLoadError(
            f"gold model {spec!r} cannot be loaded: {exc}. "
            f"Name a folder, a Hugging Face id this machine can reach, or {DEMO_GOLD!r}."
        ) from exc


def _check_score(gold: HfGoldModel) -> None:
    """Score a short exchange. Raises ValueError when the score is not finite: so would be all others."""
    score = gold.score([gold.tokenize(_EXCHANGE)])[0]
    if not math.isfinite(score):
        raise ValueError(f"its score of a short exchange is {score}, so its weights are damaged")


def _folder(spec: str) -> Path:
    if spec == DEMO_GOLD:
        return Path(__file__).parent / "demo_gold"
    if Path(spec).is_dir():
        return Path(spec)
    try:
        return Path(snapshot_download(spec, allow_patterns=_DOWNLOADED))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError) as exc:
        raise GoldLoadError(
            f"gold model {spec!r} is not a local folder, and loading it from the Hugging Face hub failed: {exc} "
            f"Copy the model to a folder and name that, or use {DEMO_GOLD!r}."
        ) from exc


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
    return HfGoldModel(model.to(device), text, id=spec, revision=_revision(weights))


def _load_delta(spec: str, folder: Path, device: torch.device) -> HfGoldModel:
    """A base model with its delta; small enough for float32 on any device."""
    config = read_delta_config(folder)
    base = config.base_folder(folder)
    model = load_reward_model(base, torch.float32, may_lack=config.whole, kept_layers=config.kept_layers)
    apply_delta(model, folder, config)
    if config.frame:  # the frame's last token is read, which may be the one that the base pads with
        model.config.get_text_config().pad_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    return HfGoldModel(
        model.to(device),
        PairText(tokenizer, config.text_pair, config.frame),
        id=spec,
        revision=_revision([base / "model.safetensors", folder / DELTA_FILE]),
        notices=config.notices,
        encoder_base=config.base,
    )


def _text(model: Any, tokenizer: Any, max_tokens: int) -> GoldText:
    pair = getattr(model.config, PAIR_KEY, None)
    if pair is not None:
        return PairText(tokenizer, PairLengths.model_validate(pair))
    if not tokenizer.chat_template:
        raise ValueError(
            "its tokenizer has no chat template, so its input format is unknown; add the template that it was "
            f"trained with, or {PAIR_KEY!r} to its config.json if it reads text pairs"
        )
    return ChatText(tokenizer, min(max_tokens, max_positions(model) or max_tokens))


def _revision(files: Sequence[Path]) -> str:
    """Content hash of the weights, 12 hex digits."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
