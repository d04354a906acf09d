"""Services for the contract tests: a good one, one that needs an API key, one whose models answer NaN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.frameworks.process import Launcher, ServiceProcess

API_KEY = "key-of-the-contract-tests"


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts the services."""
    with closing(Launcher(tmp_path_factory.mktemp("services") / "log.txt")) as launcher:
        yield launcher


@contextmanager
def _running(service: ServiceProcess) -> Iterator[ServiceProcess]:
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def service(launcher: Launcher) -> Iterator[ServiceProcess]:
    """A service with fake models; a test that stops it starts it again."""
    with _running(ServiceProcess(launcher)) as running:
        yield running


@pytest.fixture(scope="module")
def keyed_service(launcher: Launcher) -> Iterator[ServiceProcess]:
    """A service that needs `api_key`."""
    with _running(ServiceProcess(launcher, api_key=API_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def nan_service(launcher: Launcher) -> Iterator[ServiceProcess]:
    """A service whose encoder and gold model answer NaN."""
    with _running(ServiceProcess(launcher, "--nan")) as running:
        yield running
