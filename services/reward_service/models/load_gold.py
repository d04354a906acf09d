"""Find, check and load a gold model.

    demo-gold[-smollm2]    ──▶ a folder of this package   ──┐   delta.safetensors ──▶ base + delta, text pair
    a folder               ─────────────────────────────────┼─▶ else *.safetensors ──▶ chat template, or text pair
    a Hugging Face hub id  ──▶ snapshot (no pickle files) ──┘                          if config.json has PAIR_KEY

A delta to the embedded encoder is loaded by `gold_embedded` on a CPU, all others by `gold_transformers`. A start
imports the libraries of one of them.
"""

from __future__ import annotations

import contextlib
import logging
import math
from pathlib import Path

from safetensors import SafetensorError

from reward_client.base_weights import BaseWeightsError, base_location
from reward_client.wire import ChatMessage
from reward_service.errors import ConfigurationError
from reward_service.models.devices import default_device, starts_without_torch
from reward_service.models.encoder_parts import Backend
from reward_service.models.gold_delta import DELTA_FILE, DeltaConfig, read_delta_config
from reward_service.models.protocols import Exchange, LocalGold
from reward_service.settings import DEMO_GOLD, EMBEDDED_GOLDS

MAX_TOKENS = 4096
"""Maximum tokens of a rendered conversation for a chat model; limited by the model's positions, too."""

logger = logging.getLogger(__name__)

_EXCHANGE = Exchange((ChatMessage(role="user", content="Hello?"),), "Yes, hello.")


class GoldLoadError(ConfigurationError):
    """The gold model cannot be loaded; the message names the model, the cause and the next step."""


def import_gold_libraries(spec: str, device: str | None, backend: Backend) -> None:
    """Import what `load_gold` will need with these arguments, which takes most of the time of a start."""
    folder = _local_folder(spec)
    place = device or default_device()
    if folder and starts_without_torch(place, backend) and _delta_to_embedded(folder):
        with contextlib.suppress(ImportError):  # without OpenVINO, Transformers loads it
            import reward_service.models.gold_embedded

            return
    import reward_service.models.gold_transformers  # noqa: F401


def load_gold(
    spec: str,
    device: str | None = None,
    *,
    max_tokens: int = MAX_TOKENS,
    backend: Backend = "auto",
    threads: int | None = None,
) -> LocalGold:
    """Load a gold model, ready to score.

    Args:
        spec: `demo-gold`, `demo-gold-smollm2`, a local folder, or a Hugging Face hub id such as
            `Skywork/Skywork-Reward-V2-Qwen3-0.6B`.
        device: torch device; when None, CUDA if available, else the CPU. bfloat16 on CUDA, float32 elsewhere.
        max_tokens: maximum tokens of a conversation for a chat model; a longer one is truncated on the left.
        backend: unless it is `torch`, OpenVINO runs a model on the embedded encoder's weights on a CPU.
        threads: CPU threads; the library's default when None.

    Raises:
        GoldLoadError: the model is not available, is not a reward model, or its files do not match its config.
    """
    folder = _folder(spec)
    place = device or default_device()
    try:
        gold = _embedded(spec, folder, threads) if starts_without_torch(place, backend) else None
        if gold is None:
            from reward_service.models.gold_transformers import load

            gold = load(spec, folder, place, max_tokens, threads)
        _check_score(gold)
        logger.info("gold model %s runs on %s by %s", spec, place, gold.backend)
        return gold  # noqa: TRY300 - the errors of all steps are those of loading
    except (OSError, ValueError, KeyError, SafetensorError) as exc:
        raise GoldLoadError(
            f"gold model {spec!r} cannot be loaded: {exc}. "
            f"Name a folder, a Hugging Face id this machine can reach, or {DEMO_GOLD!r}."
        ) from exc


def _embedded(spec: str, folder: Path, threads: int | None) -> LocalGold | None:
    """A model on the embedded encoder's weights; None if Transformers has to load it, or to say why not."""
    try:
        config = _delta_to_embedded(folder)
        if config is None:
            return None
        from reward_service.models.gold_embedded import load

        return load(spec, folder, config, threads)
    except Exception as exc:  # noqa: BLE001 - Transformers then loads the model, or fails
        logger.warning("gold model %s is loaded with Transformers, which takes longer: %s", spec, exc)
        return None


def _delta_to_embedded(folder: Path) -> DeltaConfig | None:
    """The config of a delta to the embedded encoder; None for other folders, and for one that cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        if (folder / DELTA_FILE).is_file() and (config := read_delta_config(folder)).is_on_embedded:
            return config
    return None


def _check_score(gold: LocalGold) -> None:
    """Score a short exchange. Raises ValueError when the score is not finite: so would be all others."""
    score = gold.score([gold.tokenize(_EXCHANGE)])[0]
    if not math.isfinite(score):
        raise ValueError(f"its score of a short exchange is {score}, so its weights are damaged")


def _local_folder(spec: str) -> Path | None:
    if spec in EMBEDDED_GOLDS:
        return Path(__file__).parent / spec.replace("-", "_")
    return Path(spec) if Path(spec).is_dir() else None


def _folder(spec: str) -> Path:
    if folder := _local_folder(spec):
        return folder
    from reward_service.models.quiet import quiet_libraries

    quiet_libraries()
    try:
        return base_location(spec)
    except BaseWeightsError as exc:
        raise GoldLoadError(
            f"gold model {spec!r} is not a local folder, and loading it from the Hugging Face hub failed: {exc}. "
            f"Copy the model to a folder and name that, or use {DEMO_GOLD!r}."
        ) from exc
