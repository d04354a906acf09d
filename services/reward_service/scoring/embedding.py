"""Embeddings of texts, each text once: from the cache, or from the encoder's queue.

    texts ──look_up──▶ cached vectors, tokens of the others ──queue──▶ embedded ──▶ a vector or an error each

An encoder replaces what it has no tokens for by unknown tokens. The relevance of two texts cannot be read when
they differ and at least half of the characters of one are unknown, or the unknown ones are all that differs.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from reward_client.wire import TextCounts
from reward_service.batching import ModelWorker, Steps, Submission, Unit
from reward_service.features.text import visible
from reward_service.models.protocols import TextEncoder, Tokens

Vector = NDArray[np.float32]
"""Shape (D,)."""


@dataclass(frozen=True, slots=True)
class TextVector:
    """The embedding of a text."""

    values: Vector
    unknown_share: float = 0.0
    """Share of the text's characters that the encoder has no tokens for."""
    fingerprint: int = 0
    """See `Tokens.fingerprint`."""


EncoderWorker = ModelWorker[TextEncoder, Tokens, TextVector]

UNREADABLE_SHARE = 0.5
"""Share of unknown characters from which on a text is unreadable. The embedded encoder: at least 0.97 in Thai,
Lao, Khmer and Burmese, 0.53 to 0.64 in Chinese, at most 0.34 in Japanese, Tibetan, Hindi and Korean."""
_STEP_TEXTS = 64
_STEP_CHARS = 64 * 1024
"""Texts and characters that are tokenized in one step; a longer text is a step of its own."""
_ENTRY_BYTES = 320
"""Estimated overhead of an entry: key, array object, cache tables."""


class VectorCache:
    """Least-recently-used cache of embeddings, bounded in bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._vectors: LRUCache[Hashable, TextVector] = LRUCache(
            max_bytes, getsizeof=lambda vector: vector.values.nbytes + _ENTRY_BYTES
        )

    def get(self, key: Hashable) -> TextVector | None:
        """The vector of `key`, marked as most recently used; None when it is not cached."""
        with self._lock:
            return self._vectors.get(key)

    def put(self, key: Hashable, vector: TextVector) -> None:
        """Store a copy of `vector`, and evict the least recently used ones if needed."""
        if vector.values.nbytes + _ENTRY_BYTES <= self._max_bytes:
            with self._lock:
                self._vectors[key] = replace(vector, values=np.array(vector.values))

    @property
    def bytes_used(self) -> int:
        """Bytes in use, overhead included."""
        return int(self._vectors.currsize)


@dataclass(frozen=True, slots=True)
class LookUp:
    """Texts of one job: cached vectors, and the tokens of the other texts."""

    known: dict[str, TextVector]
    missing: dict[str, Unit[Tokens]]

    def embedded(self, done: Submission[TextVector]) -> tuple[dict[str, TextVector | Exception], TextCounts]:
        """For each text its vector or the encoder's error; `done` has the outcomes of those that were missing."""
        vectors = {**self.known, **dict(zip(self.missing, done.outcomes, strict=True))}
        encoded = len(self.missing) - done.shared
        return vectors, TextCounts(cached=len(self.known), shared=done.shared, encoded=encoded)

    def unreadable_side(self, text: str, response: str) -> Literal["text", "response"] | None:
        """Which of the two makes the relevance of `response` to `text` unreadable, if it is; both are in here."""
        a, b = (self.known.get(one) or self.missing[one].value for one in (text, response))
        known = max(a.unknown_share, b.unknown_share) < UNREADABLE_SHARE
        differ_in_known = not a.unknown_share or a.fingerprint != b.fingerprint
        if (known and differ_in_known) or _as_seen(text) == _as_seen(response):
            return None
        return "text" if a.unknown_share > b.unknown_share else "response"


def _as_seen(text: str) -> str:
    return " ".join(visible(text).casefold().split())


class Embedder:
    """The encoder's worker with a cache, which the worker fills (`ModelWorker.keep`)."""

    def __init__(self, worker: EncoderWorker, cache: VectorCache) -> None:
        self.worker = worker
        self.cache = cache

    def look_up(self, encoder: TextEncoder, texts: Iterable[str]) -> Steps[LookUp]:
        """Cached vectors of the different `texts`, and tokens of the others, in steps of a few texts."""
        look_up = LookUp({}, {})
        unknown: dict[str, bytes] = {}
        salt, n_chars = encoder.revision.encode()[:64], 0
        for number, text in enumerate(texts, 1):
            key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=salt).digest()
            vector = self.cache.get(key)
            if vector is not None:
                look_up.known[text] = vector
            else:
                unknown[text] = key
                n_chars += len(text)
            if n_chars >= _STEP_CHARS or not number % _STEP_TEXTS:
                _tokenize(encoder, unknown, look_up)
                unknown, n_chars = {}, 0
                yield
        _tokenize(encoder, unknown, look_up)
        return look_up


def embed(encoder: TextEncoder, batch: Sequence[Tokens]) -> list[TextVector]:
    """A vector for each text of `batch`."""
    rows = zip(encoder.embed(batch), batch, strict=True)
    return [TextVector(values, tokens.unknown_share, tokens.fingerprint) for values, tokens in rows]


def is_finite(vector: TextVector) -> bool:
    """Whether all numbers of `vector` are finite."""
    return bool(np.isfinite(vector.values).all())


def _tokenize(encoder: TextEncoder, texts: Mapping[str, bytes], look_up: LookUp) -> None:
    """Add the tokens of `texts`, whose values are their cache keys."""
    if texts:
        rows = encoder.tokenize(list(texts))
        units = (Unit(key, row, len(row.input_ids)) for key, row in zip(texts.values(), rows, strict=True))
        look_up.missing.update(zip(texts, units, strict=True))
