"""An encoder that Transformers loads: any folder or hub id, and the embedded one on a GPU or by torch.

sentence-transformers is not used: a saved pipeline may normalise or truncate on the right (all-MiniLM-L6-v2's does
both, at 256 tokens), the reward is defined without either, and its import takes longer than all others of a start.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import torch
from safetensors import SafetensorError

from reward_client.embedded_models import MINILM, NotInstalledError, embedded_folder
from reward_service.errors import ConfigurationError
from reward_service.models.encoder_backends import CudaForward, TorchForward, openvino_forward
from reward_service.models.encoder_parts import (
    MAX_TOKENS,
    Backend,
    EncoderParts,
    Forward,
    Precision,
    weights_revision,
)
from reward_service.models.positions import max_positions
from reward_service.models.pretrained import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
from reward_service.models.quiet import quiet_libraries
from reward_service.settings import EMBEDDED_ENCODER

_UNUSED = "pooler."
"""Start of the names of weights that hidden states do not depend on; random if the folder lacks them."""

logger = logging.getLogger(__name__)


def load_parts(
    spec: str, device: str, backend: Backend, precision: Precision, threads: int | None
) -> EncoderParts:
    """The parts of an encoder on a torch device. Raises ConfigurationError as `load_encoder` does."""
    if threads is not None:
        torch.set_num_threads(threads)
    place = torch.device(device)
    quiet_libraries()
    tokenizer, model, missing = _load_model(spec, place)
    revision = _revision(model, missing)  # before a conversion to a narrower number format
    forward = _forward(model, place, backend, precision, threads)
    return EncoderParts(tokenizer, forward, revision, min(MAX_TOKENS, max_positions(model) or MAX_TOKENS))


def _load_model(spec: str, device: torch.device) -> tuple[Any, Any, set[str]]:
    """Tokenizer, model (of encoder-decoder models the encoder), and names of weights that no vector depends on and
    that the folder lacks.
    """
    try:
        path = str(embedded_folder(MINILM)) if spec == EMBEDDED_ENCODER else spec
        tokenizer = AutoTokenizer.from_pretrained(path, truncation_side="left", trust_remote_code=False)
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        kind = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        config.use_cache = False
        options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False, "output_loading_info": True}
        model, loading = kind.from_pretrained(path, config=config, use_safetensors=True, **options)
    except (OSError, ValueError, SafetensorError, NotInstalledError) as exc:
        raise ConfigurationError(
            f"encoder {spec!r} cannot be loaded: {exc} "
            f"Name a folder, a Hugging Face id this machine can reach, or {EMBEDDED_ENCODER!r}."
        ) from exc
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigurationError(f"encoder {spec!r} has no fast tokenizer (tokenizer.json); convert it first")
    missing = set(loading["missing_keys"])
    if lacking := sorted(name for name in missing if not name.startswith(_UNUSED)):
        raise ConfigurationError(
            f"encoder {spec!r} has no weights {', '.join(lacking[:3])} ({len(lacking)} are missing): their names "
            "in its files are not those of its architecture; save it with save_pretrained of Transformers"
        )
    return tokenizer, model.to(device).eval(), missing


def _forward(
    model: torch.nn.Module, device: torch.device, backend: Backend, precision: Precision, threads: int | None
) -> Forward:
    if device.type == "cuda":
        return CudaForward(model, device, precision)
    if backend == "torch" or device.type != "cpu":
        return TorchForward(model, device, precision)
    try:
        return openvino_forward(model, precision, threads)
    except Exception as exc:
        if backend == "openvino":
            raise ConfigurationError(f"OpenVINO cannot run this encoder ({exc}); use backend=torch") from exc
        logger.warning("OpenVINO cannot run this encoder; using torch, which is slower: %s", exc)
        return TorchForward(model, device, precision)


def _revision(model: torch.nn.Module, without: Collection[str]) -> str:
    """The revision of the weights of `model`, except those `without`."""
    state = sorted(model.state_dict().items())
    return weights_revision(
        (name, tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        for name, tensor in state
        if name not in without
    )
