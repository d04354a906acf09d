"""Attacks on a real service process, and what others see meanwhile.

    def test_…(target: HostileTarget) -> None:          or `open_target` (no keys), `embedded_target` (real models)
        with Witness(target) as witness:
            witness.repeat(lambda: witness.post("/score", BODY), workers=7, seconds=3)
        assert statuses(witness.replies) <= {413, 422}  # the bounds of `witness.py` have been asserted before

`witness.post` sends as the attacker's key, `witness.hold(posted(…))` keeps a raw connection open, `witness.wait`
lets time pass. The services run for the whole session; `started` in `service.py` makes one with other settings.
Every service has to stop within its bound at the end. An attack has to last about three seconds to be measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.hostile.service import HostileTarget, control, started


@pytest.fixture(scope="session")
def control_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that answers at once, for the latency of the machine."""
    with control(tmp_path_factory.mktemp("control")) as url:
        yield url


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory, control_url: str) -> Iterator[HostileTarget]:
    """The service with fake models and an API key for each caller."""
    with started(tmp_path_factory.mktemp("target"), control_url) as running:
        yield running


@pytest.fixture(scope="session")
def open_target(tmp_path_factory: pytest.TempPathFactory, control_url: str) -> Iterator[HostileTarget]:
    """The service with fake models and without API keys; its callers have an address each."""
    with started(tmp_path_factory.mktemp("open"), control_url, keys=False) as running:
        yield running


@pytest.fixture(scope="session")
def embedded_target(tmp_path_factory: pytest.TempPathFactory, control_url: str) -> Iterator[HostileTarget]:
    """The service as it ships, with the embedded models and its supervisor, and an API key for each caller."""
    with started(tmp_path_factory.mktemp("embedded"), control_url, embedded=True) as running:
        yield running
