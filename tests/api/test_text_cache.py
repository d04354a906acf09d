"""The vector cache: each text is embedded once, and the reply counts encoded and cached texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.scoring.embedding import TextVector, VectorCache
from reward_service.settings import Settings
from tests.api.conftest import wait_until_loaded
from tests.doubles import LetterEncoder
from tests.live import busy_service, item, until


def score(service: TestClient, *items: dict[str, Any], **fields: Any) -> Any:
    reply = service.post("/score", json={"items": list(items), **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def embedded(encoder: LetterEncoder) -> list[str]:
    return [text for call in encoder.calls for text in call]


def test_the_prompt_of_a_group_of_samples_is_embedded_once_for_all_requests(
    service: TestClient, encoder: LetterEncoder
) -> None:
    replies = [score(service, item(f"answer {n}", prompt="why?")) for n in range(3)]

    assert embedded(encoder).count("why?") == 1
    counts = [(r["texts"]["encoded"], r["texts"]["cached"]) for r in replies]
    assert counts == [(2, 0), (1, 1), (1, 1)]


def test_cached_texts_give_the_same_rewards(service: TestClient, encoder: LetterEncoder) -> None:
    first = score(service, item("an answer"), item("another"))
    calls = len(encoder.calls)
    again = score(service, item("another"), item("an answer"))

    assert len(encoder.calls) == calls
    assert again["rewards"] == first["rewards"][::-1]


def test_a_vector_with_nan_is_not_cached(service: TestClient, encoder: LetterEncoder) -> None:
    for _ in range(2):
        encoder.calls.clear()
        reply = score(service, item("NAN"), on_item_error="report")

        assert reply["rewards"] == [None]
        assert "NAN" in embedded(encoder)


def test_a_cache_of_zero_bytes_is_disabled(encoder: LetterEncoder) -> None:
    app = create_app(Settings(gold="none", cache_bytes=0), encoder_loader=lambda _: encoder)
    with TestClient(app, "http://localhost") as service:
        wait_until_loaded(service)
        encoder.calls.clear()
        for _ in range(2):
            assert score(service, item("text"))["texts"]["cached"] == 0

    assert embedded(encoder).count("text") == 2


def test_requests_for_the_same_text_at_the_same_time_share_one_embedding() -> None:
    with busy_service() as busy:
        one = busy.score("the same")
        until(lambda: busy.waiting_texts() == 1)
        answers = [one, busy.score("the same"), busy.score("the same")]
        busy.release()
        rewards = {answer.result().json()["rewards"][0] for answer in answers}

        assert len(rewards) == 1
        assert busy.embedded("the same") == 1


def test_the_cache_is_bounded_and_evicts_the_least_recently_used_vector() -> None:
    zeros = TextVector(np.zeros(100, dtype=np.float32))
    cache = VectorCache(max_bytes=3 * (4 * 100 + 320))
    for key in ("a", "b", "c"):
        cache.put(key, zeros)
    assert cache.get("a") is not None
    cache.put("d", zeros)

    assert cache.get("b") is None
    assert [cache.get(key) is not None for key in ("a", "c", "d")] == [True, True, True]
    assert cache.bytes_used <= 3 * (4 * 100 + 320)


def test_a_vector_larger_than_the_cache_is_not_cached() -> None:
    cache = VectorCache(max_bytes=100)
    cache.put("a", TextVector(np.zeros(100, dtype=np.float32)))

    assert cache.get("a") is None
