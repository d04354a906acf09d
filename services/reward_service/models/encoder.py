"""The relevance encoder: mean-pooled last hidden states, unnormalised, the last 512 tokens of each text.

    texts ──tokenizer──▶ tokens ──padded──▶ forward (OpenVINO on CPUs, torch elsewhere) ──▶ vectors

The embedded model on a CPU is loaded by `encoder_embedded`, all others by `encoder_transformers`. A start imports
the libraries of one of them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from reward_service.batching import BatchLimits
from reward_service.errors import ConfigurationError
from reward_service.models.devices import default_device, is_cpu, starts_without_torch
from reward_service.models.encoder_parts import MAX_TOKENS, Backend, EncoderParts, Precision
from reward_service.models.protocols import Embeddings, Tokens
from reward_service.models.text_ends import TextEnds
from reward_service.settings import EMBEDDED_ENCODER

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

logger = logging.getLogger(__name__)


class SentenceEncoder:
    """A `TextEncoder` of a tokenizer and the forward pass of a back end."""

    def __init__(
        self,
        parts: EncoderParts,
        *,
        id: str,  # noqa: A002 - the Protocol's name
        device: str,
    ) -> None:
        tokenizer = parts.tokenizer
        self.id = id
        self.revision = parts.revision
        self.device = device
        self.backend = parts.forward.name
        self._on_cuda = device.partition(":")[0] == "cuda"
        self.limits = CUDA_LIMITS if self._on_cuda else CPU_LIMITS
        self._pad_id = tokenizer.pad_token_id or 0
        self._words = tokenizer.backend_tokenizer
        self._max_tokens = parts.max_tokens
        self._words.enable_truncation(max_length=parts.max_tokens, direction="left")
        self._words.no_padding()
        self._ends = TextEnds(self._words)
        self._unknown = tokenizer.unk_token_id
        self._forward = parts.forward

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


def import_encoder_libraries(spec: str, device: str | None, backend: Backend) -> None:
    """Import what `load_encoder` will need with these arguments, which takes most of the time of a start."""
    if spec == EMBEDDED_ENCODER and starts_without_torch(device or default_device(), backend):
        with contextlib.suppress(ImportError):  # without OpenVINO, Transformers loads it
            import reward_service.models.encoder_embedded

            return
    import reward_service.models.encoder_transformers  # noqa: F401


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
    place = device or default_device()
    if backend == "openvino" and not is_cpu(place):
        raise ConfigurationError("OpenVINO is supported on CPUs only; set device=cpu, or backend=torch")
    parts = _embedded(spec, place, backend, precision, threads)
    if parts is None:
        from reward_service.models.encoder_transformers import load_parts

        parts = load_parts(spec, place, backend, precision, threads)
    logger.info("encoder %s runs on %s by %s", spec, place, parts.forward.name)
    encoder = SentenceEncoder(parts, id=spec, device=place)
    _check_vectors(encoder)
    return encoder


def _embedded(
    spec: str, device: str, backend: Backend, precision: Precision, threads: int | None
) -> EncoderParts | None:
    """The parts of the embedded encoder; None if Transformers has to load the model, or to say why not."""
    if spec != EMBEDDED_ENCODER or not starts_without_torch(device, backend):
        return None
    try:
        from reward_service.models.encoder_embedded import load_parts

        return load_parts(precision, threads)
    except Exception as exc:  # noqa: BLE001 - Transformers then loads the model, or fails
        logger.warning("the embedded encoder is loaded with Transformers, which takes longer: %s", exc)
        return None


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
