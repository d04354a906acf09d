"""The real embedded encoder, each text embedded once for the whole session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.models.base import Embeddings, TextEncoder
from reward_service.models.encoder import load_encoder
from reward_service.settings import EMBEDDED_ENCODER, Settings


class RememberingEncoder:
    """A `TextEncoder` that asks the real one only for texts it has not seen."""

    def __init__(self, inner: TextEncoder) -> None:
        self._inner, self._known = inner, {}
        self.id, self.revision, self.device = inner.id, inner.revision, inner.device

    def embed(self, texts: Sequence[str]) -> Embeddings:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._inner.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


@pytest.fixture(scope="session")
def real_service() -> Iterator[TestClient]:
    """The service in process with the embedded encoder and no gold model."""
    encoder = RememberingEncoder(load_encoder(EMBEDDED_ENCODER))
    with TestClient(create_app(Settings(gold="none"), encoder_loader=lambda _: encoder)) as client:
        client.post("/get_reward", json={"query": "Hi?", "prompts": "Hi?"}).raise_for_status()
        yield client
