"""Baselines that compute the same numbers in this process.

ReferenceImplementation  the published code of the paper: batches of 4 in the order given, each prompt encoded
                         again for each of its responses, all dot products of a batch, only the diagonal used
BareEncoder              sentence-transformers' `encode` on unique texts, sorted by length, at its fastest batch
size
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from benchmarks.items import pairs, unique_texts
from benchmarks.measure import Figure
from reward_client import Item

__all__ = ["BareEncoder", "ReferenceImplementation"]

REFERENCE_BATCH = 4
BARE_BATCH_SIZES = (8, 16, 32, 64)


def _pipeline(path: str) -> tuple[Transformer, SentenceTransformer]:
    body = Transformer(path, max_seq_length=512, processor_kwargs={"truncation_side": "left"})
    pooling = Pooling(body.get_embedding_dimension(), pooling_mode="mean")
    return body, SentenceTransformer(modules=[body, pooling], device="cpu").eval()


class ReferenceImplementation:
    """Dot products of (prompt, response) pairs, computed as the paper's code does."""

    def __init__(self, path: str) -> None:
        self._body, self._model = _pipeline(path)

    @torch.inference_mode()
    def __call__(self, items: list[Item]) -> NDArray[np.float64]:
        """One dot product for each item."""
        texts, relevance = pairs(items), []
        for start in range(0, len(texts), REFERENCE_BATCH):
            batch = texts[start : start + REFERENCE_BATCH]
            prompts, responses = (self._embed([pair[side] for pair in batch]) for side in (0, 1))
            relevance += torch.diagonal(prompts @ responses.T).tolist()
        return np.array(relevance)

    def padded_ratio(self, items: list[Item]) -> Figure:
        """Tokens that the reference encodes, padding included, divided by those of the unique texts.

        This is the largest speed-up with the same encoder at the same speed.
        """
        texts = pairs(items)
        batches = [texts[i : i + REFERENCE_BATCH] for i in range(0, len(texts), REFERENCE_BATCH)]
        sides = [[pair[side] for pair in batch] for batch in batches for side in (0, 1)]
        padded = sum(self._tokens(side)["input_ids"].numel() for side in sides)
        unique = sum(self._tokens([text])["input_ids"].numel() for text in unique_texts(items))
        note = f"{padded} against {unique} tokens: the limit of the same encoder at the same speed"
        return Figure("tokens, reference implementation ÷ unique texts", [padded / unique], note=note)

    def _tokens(self, texts: list[str]) -> Any:
        return self._body.tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")

    def _embed(self, texts: list[str]) -> torch.Tensor:
        inputs = self._tokens(texts)
        features = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        for module in self._model:
            features = module(features)
        embedding: torch.Tensor = features["sentence_embedding"]
        return embedding


class BareEncoder:
    """sentence-transformers on the unique texts."""

    def __init__(self, path: str) -> None:
        _, self._model = _pipeline(path)
        self.batch_size = BARE_BATCH_SIZES[0]

    def __call__(self, items: list[Item]) -> object:
        """Vectors of the unique texts of `items`."""
        return self._model.encode(
            unique_texts(items), batch_size=self.batch_size, normalize_embeddings=False, show_progress_bar=False
        )
