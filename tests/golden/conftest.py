"""The real embedded encoder by each back end that keeps parity; the service's own cache embeds each text once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.settings import Settings


@pytest.fixture(scope="session", params=["openvino", "torch"])
def real_service(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """The service in process with the embedded encoder and no gold model."""
    with _serving(backend=request.param) as client:
        yield client


@pytest.fixture(scope="session")
def narrow_service() -> Iterator[TestClient]:
    """The same in bf16."""
    with _serving(precision="bf16") as client:
        yield client


@contextmanager
def _serving(**settings: Any) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(gold="none", **settings)), "http://localhost") as client:
        client.post("/get_reward", json={"query": "Hi?", "prompts": "Hi?"}).raise_for_status()  # held until loaded
        yield client
