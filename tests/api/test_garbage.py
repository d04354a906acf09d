"""What a request brought is freed when it ends, without waiting for a garbage collection."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi.testclient import TestClient

from reward_client.wire import Item, ScoreRequest
from reward_service.admission.work import Work
from reward_service.app import create_app
from reward_service.errors import InvalidRequestError
from reward_service.http.json_codec import parse
from reward_service.scoring.job import ScorableItem
from reward_service.scoring.pipeline import Scoring
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LengthGold, LetterEncoder

pytestmark = pytest.mark.usefixtures("no_collection")


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected during the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def large_service() -> Iterator[TestClient]:
    """A service that has received a body of several megabytes before."""
    settings = Settings(max_waiting_items=10_000)
    app = create_app(settings, encoder_loader=lambda _: LetterEncoder(), gold_loader=lambda _: LengthGold())
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        wait_until_loaded(client)
        yield client


def items(n: int, **changes: Any) -> list[dict[str, Any]]:
    """Different items of a kilobyte, the last one with `changes`."""
    found: list[dict[str, Any]] = [{"prompt": f"Why {i}?", "response": "Because. " * 100} for i in range(n)]
    found[-1] |= changes
    return found


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"items": items(2_000)}, 200),
        ({"items": items(2_000, response=7)}, 422),
        ({"items": items(2_000, query_type="closed_ended")}, 422),
        ({"items": items(6_000)}, 413),
        ({"items": items(2_000), "recipe": "none"}, 422),
        ({"items": items(2_000), "unknown": 1}, 422),
    ],
    ids=["scored", "wrong type", "without reference", "too many", "unknown recipe", "unknown field"],
)
def test_items_and_body_are_freed(large_service: TestClient, body: dict[str, Any], status: int) -> None:
    content = json.dumps(body)
    before = _held()

    answer = large_service.post("/score", content=content, headers={"content-type": "application/json"})

    assert answer.status_code == status
    assert _held() == before


@pytest.mark.parametrize("changes", [{}, {"response": 7}, {"response": "\ud800"}], ids=["valid", "wrong", "half"])
def test_a_parsed_body_is_not_referred_to(changes: dict[str, Any]) -> None:
    body = bytearray(json.dumps({"items": items(500, **changes)}).encode())

    with suppress(InvalidRequestError):
        parse(ScoreRequest, body, Settings())

    body.clear()  # a BufferError while something refers to it


def _held() -> dict[str, int]:
    kinds = (Item, ScorableItem, Work, Scoring)
    return {kind.__name__: sum(isinstance(o, kind) for o in gc.get_objects()) for kind in kinds}
