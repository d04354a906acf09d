"""Fixtures of several unit tests: a service without a gold model, and a small policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reward_service.settings import Settings
from tests.live import serving
from tests.tiny_llama import save_tiny_llama


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Address of a service with test models, without a gold model."""
    with serving(Settings(gold="none")) as running:
        yield running


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Llama model with random weights."""
    return save_tiny_llama(tmp_path_factory.mktemp("policy"))
