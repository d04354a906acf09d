"""Services for the contract tests: a good one, one that needs an API key, one whose models answer NaN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.frameworks.process import ServiceProcess

API_KEY = "key-of-the-contract-tests"


@contextmanager
def _running(
    factory: pytest.TempPathFactory, *options: str, api_key: str | None = None
) -> Iterator[ServiceProcess]:
    service = ServiceProcess(factory.mktemp("service") / "log.txt", *options, api_key=api_key)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service with fake models; a test that stops it starts it again."""
    with _running(tmp_path_factory) as running:
        yield running


@pytest.fixture(scope="module")
def keyed_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service that needs `api_key`."""
    with _running(tmp_path_factory, api_key=API_KEY) as running:
        yield running


@pytest.fixture(scope="module")
def nan_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service whose encoder and gold model answer NaN."""
    with _running(tmp_path_factory, "--nan") as running:
        yield running
