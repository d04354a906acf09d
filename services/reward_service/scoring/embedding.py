"""Embeddings of texts, each text once: from the cache, or from the encoder's queue.

    texts ──look_up──▶ cached vectors, tokens of the others ──enqueue──▶ queued ──done──▶ a vector or an error each

`look_up` tokenizes, so it is steps for a thread; the other calls run on the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from reward_client.wire import TextCounts
from reward_service.batching import ModelWorker, Reservation, Steps, Submission, Unit
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

    def encoded(self, text: str) -> TextVector | Tokens:
        """The vector of `text`, or its tokens."""
        return self.known.get(text) or self.missing[text].value


@dataclass(frozen=True, slots=True)
class Embedded:
    """For each text its vector or the encoder's error, and the timings."""

    vectors: dict[str, TextVector | Exception]
    counts: TextCounts
    queue_s: float = 0.0
    model_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts whose missing vectors are queued. Its submission must be closed."""

    look_up: LookUp
    submission: Submission[TextVector]

    def result(self) -> Embedded:
        """All vectors, once `submission.wait` has returned."""
        done = self.submission
        known, missing = self.look_up.known, self.look_up.missing
        counts = TextCounts(cached=len(known), shared=done.shared, encoded=len(missing) - done.shared)
        vectors = {**known, **dict(zip(missing, done.outcomes, strict=True))}
        return Embedded(vectors, counts, done.queue_s, done.model_s)


class Embedder:
    """The encoder's worker with a cache, which the worker fills (`ModelWorker.keep`)."""

    def __init__(self, worker: EncoderWorker, cache: VectorCache) -> None:
        self.worker = worker
        self.cache = cache

    def look_up(self, encoder: TextEncoder, texts: Iterable[str]) -> Steps[LookUp]:
        """Cached vectors of the different `texts`, and tokens of the others."""
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

    async def enqueue(
        self, look_up: LookUp, caller: str = "", reservation: Reservation | None = None
    ) -> Embedding:
        """Queue what is missing; the worker puts it into the cache. Raises NotReadyError."""
        missing = list(look_up.missing.values())
        return Embedding(look_up, await self.worker.enqueue(missing, caller, reservation))


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
