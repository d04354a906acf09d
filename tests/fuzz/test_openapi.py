"""The API conforms to its OpenAPI schema: schemathesis generates requests to the service on a socket.

The pytest plugin of schemathesis is not used, only its cases and all of its checks. No API key is set, so that
every case reaches its route; `tests/api/test_auth.py` covers authentication.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reward_service.app import create_app
from reward_service.settings import Settings
from tests.generated_cases import MULTIPLE
from tests.live import serving

pytestmark = pytest.mark.slow

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra: dev)")

SETTINGS = Settings()
CHECKS = {
    # rules that a schema cannot express, such as an existing recipe or a required reference, fail with 422, and an
    # unknown data set in the path with 404
    "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "422"]},
    "negative_data_rejection": {"expected-statuses": ["4xx"]},
}
API = schemathesis.openapi.from_dict(
    create_app(SETTINGS).openapi(), config=schemathesis.Config.from_dict({"checks": CHECKS})
)
OPERATIONS = [result.ok() for result in API.get_all_operations()]
POSTS = [operation for operation in OPERATIONS if operation.method == "post"]
GETS = [operation for operation in OPERATIONS if operation.method == "get"]
MODES = list(schemathesis.GenerationMode)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(SETTINGS) as url:
        yield url


def effort(n: int) -> settings:
    """Hypothesis settings for `n` cases at effort 1, without limits on the time to generate them."""
    return settings(
        max_examples=n * MULTIPLE, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.label)
@effort(60)
@given(data=st.data())
def test_replies_to_valid_and_invalid_requests_conform_to_the_schema(
    operation: Any, mode: Any, url: str, data: Any
) -> None:
    send(operation, mode, url, data)


@pytest.mark.parametrize("operation", GETS, ids=lambda operation: operation.label)
@effort(3)
@given(data=st.data())
def test_replies_to_get_requests_conform_to_the_schema(operation: Any, url: str, data: Any) -> None:
    send(operation, schemathesis.GenerationMode.POSITIVE, url, data)


def send(operation: Any, mode: Any, url: str, data: Any) -> None:
    """Send one generated case of `operation` and run every check on the reply."""
    case = data.draw(operation.as_strategy(generation_mode=mode))
    case.call_and_validate(base_url=url, timeout=10)
