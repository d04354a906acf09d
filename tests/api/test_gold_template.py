"""A conversation that the gold model's chat template cannot render is that item's error, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from reward_service.app import create_app
from reward_service.models.load_gold import load_gold
from reward_service.settings import Settings
from tests.doubles import LetterEncoder
from tests.gold_models import save_chat_model
from tests.live import until

TEMPLATE = """\
{% macro endless() %}{{ endless() }}{% endmacro %}
{% for message in messages %}
{% set said = message['content'] %}
{% if 'divide' in said %}{{ 1 / 0 }}{% endif %}
{% if 'add' in said %}{{ 1 + said }}{% endif %}
{% if 'recurse' in said %}{{ endless() }}{% endif %}
{% if 'loop' in said %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}
{% if 'grow' in said %}{{ said * 10 ** 10 }}{% endif %}
{% if 'surrogate' in said %}{{ '\\ud800' }}{% endif %}
{{ message['role'] }}: {{ said }}
{% endfor %}"""

WORDS = ["divide", "add", "recurse", "loop", "grow", "surrogate"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = save_chat_model(tmp_path_factory.mktemp("gold"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    app = create_app(
        Settings(gold=str(folder)),
        encoder_loader=lambda _: LetterEncoder(),
        gold_loader=lambda settings: load_gold(settings.gold, "cpu"),
    )
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.mark.parametrize("word", WORDS)
def test_the_item_has_an_error_and_the_others_are_scored(service: TestClient, word: str) -> None:
    items = [{"prompt": "Why is it?", "response": response} for response in ("because", f"we {word} it", "so")]

    reply = service.post("/score", json={"items": items, "gold": True, "on_item_error": "report"})

    assert reply.status_code == 200, reply.text
    results = reply.json()["results"]
    assert [result["error"] is None for result in results] == [True, False, True]
    assert results[1]["error"]["field"] == "response"
    assert "the gold model cannot read this exchange" in results[1]["error"]["message"]
    assert all(isinstance(results[i]["gold_reward"], float) for i in (0, 2))


@pytest.mark.parametrize("word", WORDS)
def test_a_request_that_fails_as_a_whole_names_the_item(service: TestClient, word: str) -> None:
    items = [{"prompt": "Why is it?", "response": response} for response in ("because", f"we {word} it")]

    reply = service.post("/score", json={"items": items, "gold": True})

    assert reply.status_code == 422
    assert [(error["item"], error["field"]) for error in reply.json()["errors"]] == [(1, "items.1.response")]
