"""Health, readiness, metrics, info, the page and the API description."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

import reward_service
from reward_client.wire import Info
from reward_service.app import create_app
from reward_service.errors import ConfigurationError
from reward_service.models.protocols import TextEncoder
from reward_service.settings import Settings
from tests.doubles import LengthGold, LetterEncoder, letters

HOST = "http://localhost"


@pytest.mark.parametrize("path", ["/readyz", "/health"])
def test_ready_means_that_a_forward_pass_ran(
    service: TestClient, encoder: LetterEncoder, gold: LengthGold, path: str
) -> None:
    assert service.get(path).status_code == 200

    assert len(encoder.calls) == 1
    assert len(gold.seen) == 1


def test_not_ready_while_a_model_loads_but_alive(gold: LengthGold) -> None:
    loaded = threading.Event()

    def load(_: Settings) -> TextEncoder:
        loaded.wait(30)
        return LetterEncoder()

    with TestClient(
        create_app(Settings(), encoder_loader=load, gold_loader=lambda _: gold), "http://localhost"
    ) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        refused = client.post("/score", json={"items": [{"prompt": "a", "response": "b"}]})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        loaded.set()
        held = client.post("/get_reward", json={"query": "a?b", "prompts": "a?"})
        assert held.status_code == 200


def test_all_who_ask_together_share_one_forward_pass(encoder: LetterEncoder, gold: LengthGold) -> None:
    app = create_app(Settings(), encoder_loader=lambda _: encoder, gold_loader=lambda _: gold)

    async def ask() -> list[int]:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client,
        ):
            await client.post("http://x/get_reward", json={"query": "a?b", "prompts": "a?"})
            encoder.calls.clear()
            gold.seen.clear()
            answers = await asyncio.gather(*(client.get("http://x/readyz") for _ in range(20)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200] * 20
    assert encoder.calls == [["ready?"]]
    assert gold.seen == ["Yes."]


def test_one_look_is_not_kept_for_who_asks_later(service: TestClient, encoder: LetterEncoder) -> None:
    for _ in range(3):
        assert service.get("/readyz").status_code == 200

    assert len(encoder.calls) == 3


@pytest.mark.parametrize(
    ("key", "headers", "told"),
    [
        (None, {}, True),
        ("sesame", {"x-api-key": "sesame"}, True),
        ("sesame", {}, False),
        ("sesame", {"x-api-key": "barley"}, False),
    ],
    ids=["no keys", "the key", "no key", "a wrong key"],
)
def test_why_a_model_is_not_ready_is_told_to_callers_and_not_to_strangers(
    gold: LengthGold, caplog: pytest.LogCaptureFixture, key: str | None, headers: dict[str, str], *, told: bool
) -> None:
    def load(_: Settings) -> TextEncoder:
        raise ConfigurationError("no such folder /models/mine")

    settings = Settings(api_key=key)
    with TestClient(
        create_app(settings, encoder_loader=load, gold_loader=lambda _: gold), "http://localhost"
    ) as client:
        client.post("/get_reward", json={"query": "a?b", "prompts": "a?"}, headers={"x-api-key": key or ""})
        refused = client.get("/readyz", headers=headers)

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "encoder" in refused.json()["detail"]
    assert "gold" not in refused.json()["detail"]
    assert ("/models/mine" in refused.text) == told
    assert told or "log" in refused.json()["detail"]
    assert any("not ready" in record.message and "/models/mine" in record.message for record in caplog.records)


def test_a_health_check_with_too_many_keys_is_answered_as_one_without(encoder: LetterEncoder) -> None:
    def failing(_: Settings) -> LengthGold:
        raise ConfigurationError("no such folder /models/mine")

    settings = Settings(api_key="sesame-key-1")
    app = create_app(settings, encoder_loader=lambda _: encoder, gold_loader=failing)
    with TestClient(app, HOST) as client:
        refused = client.get("/readyz", headers=[("x-api-key", f"key {n}") for n in range(9)])

    assert refused.status_code == 503
    assert "/models/mine" not in refused.text


def test_a_failed_pass_is_a_cause_too(
    service: TestClient, encoder: LetterEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "tokenize", lambda _: [letters("BOOM")])

    refused = service.get("/readyz")

    assert refused.status_code == 503
    assert "encoder exploded" in refused.json()["detail"]


def test_a_model_that_cannot_load_is_told_to_whoever_asks(gold: LengthGold) -> None:
    def load(_: Settings) -> TextEncoder:
        raise ConfigurationError("no such folder /models/mine")

    with TestClient(
        create_app(Settings(), encoder_loader=load, gold_loader=lambda _: gold), "http://localhost"
    ) as client:
        for response in (
            client.get("/readyz"),
            client.post("/get_reward", json={"query": "a?b", "prompts": "a?"}),
        ):
            assert response.status_code == 503
            assert "no such folder /models/mine" in response.json()["detail"]


def test_without_gold_a_request_for_it_says_how_to_get_one(encoder: LetterEncoder) -> None:
    app = create_app(Settings(gold="none"), encoder_loader=lambda _: encoder)
    with TestClient(app, HOST) as client:
        client.post("/get_reward", json={"query": "a?b", "prompts": "a?"})
        refused = client.post("/score", json={"items": [{"prompt": "a", "response": "b"}], "gold": True})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "gold"
    assert "--gold" in refused.json()["detail"]


def test_info_lists_recipes_models_and_limits(service: TestClient) -> None:
    info = Info.model_validate(service.get("/info").json())

    names = {recipe.name for recipe in info.recipes}
    assert names >= {"rer", "rer-reference", "gold", "li", "li-rp", "qr", "li-rp-qr", "rer-reference-nostrip"}
    assert info.relevance is not None
    assert info.relevance.id == "letters"
    assert info.gold is not None
    assert info.gold.notices == ["a stand-in of the tests"]
    assert info.limits.max_items == 100


def test_metrics_count_requests_and_items_by_outcome(service: TestClient) -> None:
    service.post("/score", json={"items": [{"prompt": "a", "response": "a"}] * 3})
    service.post("/score", json={"items": []})

    text = service.get("/metrics").text

    assert 'glassbox_requests_total{route="/score",status="200"} 1.0' in text
    assert 'glassbox_requests_total{route="/score",status="422"} 1.0' in text
    assert 'glassbox_items_total{outcome="scored",protocol="score",recipe="rer"} 3.0' in text
    assert 'glassbox_model_seconds_total{model="encoder"}' in text


def test_an_unknown_route_is_a_problem_document(service: TestClient) -> None:
    response = service.get("/nowhere")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(service: TestClient, path: str) -> None:
    html = service.get(path).text

    assert re.findall(r"""(?:src|href)\s*=\s*["'](?:https?:)?//[^"']+""", html) == []


def test_the_page_allows_only_its_own_script(service: TestClient) -> None:
    policy = service.get("/").headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy


def test_the_api_description_has_the_request_bodies(service: TestClient) -> None:
    document = service.get("/openapi.json").json()

    reference = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/ScoreRequest"
    schemas = document["components"]["schemas"]
    used = set(re.findall(r'"#/components/schemas/(\w+)"', service.get("/openapi.json").text))
    assert used <= set(schemas)


def test_the_libraries_of_info_are_those_that_the_service_imports(service: TestClient) -> None:
    folder = Path(reward_service.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in folder.rglob("*.py")]
    listed = set(service.get("/info").json()["versions"]) - {"glassbox-reward"}

    assert {"torch", "tokenizers"} <= listed
    for name in listed:
        assert any(re.search(rf"^\s*(from|import) {name}\b", text, re.MULTILINE) for text in sources), name
