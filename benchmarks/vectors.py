"""Embeddings by text, stored in a folder outside the repository, so that a study is repeated in seconds."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reward_service.models.protocols import TextEncoder, Tokens

__all__ = ["StoredVectors", "rows"]

_SHARD_TEXTS = 512
"""Texts of one file: what an interrupted run loses."""
_BATCH_TEXTS = 16


class StoredVectors:
    """Vectors of texts, shape (D,); `encoder` computes those that the folder lacks."""

    def __init__(self, folder: Path, encoder: TextEncoder) -> None:
        self._folder, self._encoder = folder, encoder
        folder.mkdir(parents=True, exist_ok=True)
        self._vectors: dict[str, NDArray[np.float32]] = {}
        for shard in sorted(folder.glob("*.npz")):
            with np.load(shard) as stored:
                self._vectors.update(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def __getitem__(self, text: str) -> NDArray[np.float32]:
        return self._vectors[_key(text)]

    def add(self, texts: Mapping[str, Tokens]) -> None:
        """Embed and store the texts that are missing."""
        missing = {_key(text): tokens for text, tokens in texts.items() if _key(text) not in self._vectors}
        keys = sorted(missing, key=lambda key: len(missing[key]))
        for start in range(0, len(keys), _SHARD_TEXTS):
            shard = keys[start : start + _SHARD_TEXTS]
            batches = (shard[i : i + _BATCH_TEXTS] for i in range(0, len(shard), _BATCH_TEXTS))
            vectors = np.concatenate([self._encoder.embed([missing[key] for key in batch]) for batch in batches])
            np.savez(self._folder / f"{shard[0]}.npz", keys=np.array(shard), vectors=vectors)
            self._vectors.update(zip(shard, vectors, strict=True))
            print(f"{start + len(shard)} of {len(keys)} texts are embedded", flush=True)


def rows(path: Path) -> list[dict[str, str]]:
    """The objects of a JSON Lines file, compressed or not."""
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
