"""Fixtures: the service in the test process, with fake models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder
from tests.live import until


def wait_until_loaded(client: TestClient) -> None:
    """Return when all models are loaded and usable. `POST /get_reward` is held for the encoder only."""
    until(lambda: client.get("/readyz").status_code == 200)


@pytest.fixture
def encoder() -> LetterEncoder:
    return LetterEncoder()


@pytest.fixture
def gold() -> LengthGold:
    return LengthGold()


@pytest.fixture
def service(encoder: LetterEncoder, gold: LengthGold) -> Iterator[TestClient]:
    settings = Settings(max_body_bytes=1_000_000, max_items=100, max_text_chars=10_000, default_recipe="rer")
    app = create_app(settings, encoder_loader=lambda _: encoder, gold_loader=lambda _: gold)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        wait_until_loaded(client)
        encoder.calls.clear()
        gold.seen.clear()
        yield client
