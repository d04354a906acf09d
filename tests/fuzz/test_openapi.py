"""The API does what its description says, whatever is sent: schemathesis against the service on a socket.

schemathesis' own pytest plugin is not used: only its cases and its checks, all of them. No key is set, so that
every case reaches its route; `tests/api/test_auth.py` is about keys.
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
    # what a schema cannot say (a recipe that exists, a reference where one is needed) is refused by name, with 422
    "positive_data_acceptance": {"expected-statuses": ["2xx", "422"]},
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


def asked(n: int) -> settings:
    """Settings for `n` cases at effort 1, however slowly or rarely they can be made."""
    return settings(
        max_examples=n * MULTIPLE, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.label)
@asked(60)
@given(data=st.data())
def test_answers_to_good_and_bad_input_are_as_described(operation: Any, mode: Any, url: str, data: Any) -> None:
    ask(operation, mode, url, data)


@pytest.mark.parametrize("operation", GETS, ids=lambda operation: operation.label)
@asked(3)
@given(data=st.data())
def test_questions_are_answered_as_described(operation: Any, url: str, data: Any) -> None:
    ask(operation, schemathesis.GenerationMode.POSITIVE, url, data)


def ask(operation: Any, mode: Any, url: str, data: Any) -> None:
    """Send one generated case of `operation`, and run every check on the answer."""
    case = data.draw(operation.as_strategy(generation_mode=mode))
    case.call_and_validate(base_url=url, timeout=10)
