"""Texts to vectors, each text once: known ones from the cache, the rest through the encoder's queue.

    texts ──look_up──▶ cached vectors, tokens of the others ──enqueue──▶ queued ──done──▶ a vector or an error each

`look_up` tokenizes, so it belongs in a thread; the rest belongs on the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from reward_client.wire import TextCounts
from reward_service.batching import ModelWorker, Submission, Unit
from reward_service.models.protocols import TextEncoder, Tokens

__all__ = ["Embedded", "Embedder", "EncoderWorker", "LookUp", "Vector", "VectorCache"]

Vector = NDArray[np.float32]
"""Shape (D,)."""
EncoderWorker = ModelWorker[TextEncoder, Tokens, Vector]

_ENTRY_BYTES = 256
"""What an entry costs besides its numbers: key, array object, places in the cache's tables."""


class VectorCache:
    """The vectors of the texts used last, bounded in bytes. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._vectors: LRUCache[Hashable, Vector] = LRUCache(
            max_bytes, getsizeof=lambda v: v.nbytes + _ENTRY_BYTES
        )

    def get(self, key: Hashable) -> Vector | None:
        """The vector under `key`, which now counts as just used."""
        with self._lock:
            return self._vectors.get(key)

    def put(self, key: Hashable, vector: Vector) -> None:
        """Keep a copy of `vector`, at the cost of whichever was used longest ago."""
        if vector.nbytes + _ENTRY_BYTES <= self._max_bytes:
            with self._lock:
                self._vectors[key] = np.array(vector)

    @property
    def bytes_used(self) -> int:
        """What the vectors take now."""
        return int(self._vectors.currsize)


@dataclass(frozen=True, slots=True)
class LookUp:
    """What is known of some texts before the encoder was asked."""

    known: dict[str, Vector]
    missing: dict[str, Unit[Tokens]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A vector for each text, or why there is none, and what that took."""

    vectors: dict[str, Vector | Exception]
    counts: TextCounts
    queue_s: float = 0.0
    model_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts whose missing vectors were queued; to be closed like its submission."""

    look_up: LookUp
    submission: Submission[Vector]

    async def done(self) -> Embedded:
        """All vectors. Raises NotReadyError when the encoder stops for good before they are known."""
        done = await self.submission.done()
        known, missing = self.look_up.known, self.look_up.missing
        counts = TextCounts(cached=len(known), shared=done.shared, encoded=len(missing) - done.shared)
        vectors = {**known, **dict(zip(missing, done.outcomes, strict=True))}
        return Embedded(vectors, counts, done.queue_s, done.model_s)

    def close(self) -> None:
        """Give up what is not encoded yet."""
        self.submission.close()


class Embedder:
    """An encoder's worker with a cache in front of it, which that worker fills (`ModelWorker.keep`)."""

    def __init__(self, worker: EncoderWorker, cache: VectorCache) -> None:
        self.worker = worker
        self.cache = cache

    def look_up(self, encoder: TextEncoder, texts: Sequence[str]) -> LookUp:
        """Find the vectors of `texts`, or else their tokens. For a thread."""
        keys = {text: _key(encoder, text) for text in texts}
        found = {text: self.cache.get(key) for text, key in keys.items()}
        known = {text: vector for text, vector in found.items() if vector is not None}
        unknown = [text for text in keys if text not in known]
        tokens = encoder.tokenize(unknown) if unknown else []
        units = {t: Unit(keys[t], row, len(row)) for t, row in zip(unknown, tokens, strict=True)}
        return LookUp(known, units)

    def enqueue(self, look_up: LookUp) -> Embedding:
        """Queue what is missing; the worker puts it into the cache. Raises NotReadyError."""
        return Embedding(look_up, self.worker.enqueue(list(look_up.missing.values())))


def _key(encoder: TextEncoder, text: str) -> bytes:
    """128 bits that name a text as this encoder reads it."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=encoder.revision.encode()[:64])
    return digest.digest()
