"""Embeddings by text, cached in a folder outside the repository, so that a study is repeated in seconds.

python -m benchmarks.vectors CACHE FILE [FILE ...]     # embeds every prompt and response of preference files
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reward_client.wire import ChatMessage
from reward_service.features.text import prompt_text
from reward_service.models.encoder import load_encoder
from reward_service.models.protocols import TextEncoder
from reward_service.settings import EMBEDDED_ENCODER

__all__ = ["VectorCache", "query_text", "rows"]

_SHARD_TEXTS = 2048
"""Texts of one file of the cache: what an interrupted run loses."""


class VectorCache:
    """Vectors by text. `encoder` computes those that the folder lacks; without one they are an error."""

    def __init__(self, folder: Path, encoder: TextEncoder | None = None) -> None:
        self._folder, self._encoder = folder, encoder
        folder.mkdir(parents=True, exist_ok=True)
        self._vectors: dict[str, NDArray[np.float32]] = {}
        for shard in sorted(folder.glob("*.npz")):
            with np.load(shard) as stored:
                self._vectors.update(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def __getitem__(self, text: str) -> NDArray[np.float32]:
        return self._vectors[_key(text)]

    def add(self, texts: Iterable[str]) -> None:
        """Embed the texts that are missing, and store them."""
        missing = list({_key(text): text for text in texts if _key(text) not in self._vectors}.values())
        for start in range(0, len(missing), _SHARD_TEXTS):
            shard = missing[start : start + _SHARD_TEXTS]
            if self._encoder is None:
                raise KeyError(f"{len(missing)} texts are not in {self._folder}; run benchmarks.vectors first")
            vectors = _embedded(self._encoder, shard)
            keys = [_key(text) for text in shard]
            np.savez(self._folder / f"{keys[0]}.npz", keys=np.array(keys), vectors=vectors)
            self._vectors.update(zip(keys, vectors, strict=True))
            print(f"{start + len(shard)} of {len(missing)} texts", flush=True)


def rows(path: Path) -> list[dict[str, str]]:
    """The objects of a JSON Lines file, compressed or not."""
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def query_text(prompt: str) -> str:
    """The text of a prompt that the encoder reads."""
    return prompt_text([ChatMessage(role="user", content=prompt)])


def _texts(row: dict[str, str]) -> Iterator[str]:
    yield query_text(row["prompt"])
    yield row["chosen"]
    yield row["rejected"]


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _embedded(encoder: TextEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of `texts`, shape (N, D); texts of one length are batched together."""
    tokens = encoder.tokenize(texts)
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
    vectors: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(order), 16):
        batch = order[start : start + 16]
        vectors.update(zip(batch, encoder.embed([tokens[i] for i in batch]), strict=True))
    return np.stack([vectors[i] for i in range(len(texts))])


if __name__ == "__main__":
    cache = VectorCache(Path(sys.argv[1]), load_encoder(EMBEDDED_ENCODER, threads=1))
    for name in sys.argv[2:]:
        cache.add(text for row in rows(Path(name)) for text in _texts(row))
