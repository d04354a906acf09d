"""Several gold models of one service: the first is the primary one, the others are reported beside it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from reward_client.wire import Info, ScoreReply
from reward_service.__main__ import configure, read_settings
from reward_service.app import create_app
from reward_service.errors import ConfigurationError
from reward_service.models.protocols import Tokens
from reward_service.settings import Settings
from tests.api.test_wire_version import RELEASE_0_1, posted_by_0_1
from tests.doubles import LengthGold
from tests.fixtures import wire_0_1
from tests.live import until

ITEMS = [{"prompt": "a b", "response": "c d"}, {"prompt": "a b", "response": "c d e f"}]


class NegativeGold(LengthGold):
    """Scores an exchange by minus the length of its response; "ODD" in it is an error."""

    def score(self, batch: list[Tokens]) -> list[float]:  # type: ignore[override]
        if any("ODD" in "".join(map(chr, tokens.input_ids)) for tokens in batch):
            raise RuntimeError("odd")
        return [-score for score in super().score(batch)]


def service_with(gold: str) -> TestClient:
    def load(settings: Settings) -> LengthGold:
        kind = NegativeGold if settings.gold == "b" else LengthGold
        return kind(id=settings.gold, revision=f"{settings.gold}-1")

    settings = Settings(gold=gold, encoder="none", default_recipe="li")
    return TestClient(create_app(settings, gold_loader=load), "http://localhost", raise_server_exceptions=False)


@pytest.fixture
def both() -> Iterator[TestClient]:
    with service_with("a,b") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def scored(client: TestClient, items: list[dict[str, Any]], **options: Any) -> ScoreReply:
    reply = client.post("/score", json={"items": items, "gold": True, **options})
    assert reply.status_code == 200, reply.text
    return ScoreReply.model_validate_json(reply.content)


def test_each_gold_model_scores_and_the_first_one_is_the_primary(both: TestClient) -> None:
    reply = scored(both, ITEMS)

    assert [result.gold_reward for result in reply.results] == [0.3, 0.7]
    assert [result.other_gold_rewards for result in reply.results] == [{"b": -0.3}, {"b": -0.7}]
    assert (reply.models.gold, reply.models.gold_revision) == ("a", "a-1")
    assert reply.models.other_gold_revisions == {"b": "b-1"}


def test_the_description_of_the_service_has_all_of_them(both: TestClient) -> None:
    info = Info.model_validate_json(both.get("/info").content)

    assert info.gold is not None
    assert (info.gold.id, [other.id for other in info.other_gold]) == ("a", ["b"])
    assert 'glassbox_batch_items_count{model="gold-2"}' in both.get("/metrics").text


def test_a_recipe_whose_reward_is_gold_needs_the_primary_one_only(both: TestClient) -> None:
    reply = both.post("/score", json={"items": ITEMS, "recipe": "gold"}).json()

    assert reply["rewards"] == [0.3, 0.7]
    assert [result["other_gold_rewards"] for result in reply["results"]] == [{}, {}]


def test_an_item_that_one_of_them_fails_on_has_an_error(both: TestClient) -> None:
    items = [ITEMS[0], {"prompt": "a", "response": "ODD"}]
    first, second = scored(both, items, on_item_error="report").results

    assert (first.gold_reward, first.other_gold_rewards) == (0.3, {"b": -0.3})
    assert (second.reward, second.gold_reward, second.other_gold_rewards) == (None, None, {})
    assert second.error is not None


def test_the_client_of_0_1_reads_the_primary_one(both: TestClient) -> None:
    reply = wire_0_1.ScoreReply.model_validate_json(posted_by_0_1(both, {"items": ITEMS, "gold": True}).content)

    assert [result.gold_reward for result in reply.results] == [0.3, 0.7]
    wire_0_1.Info.model_validate_json(both.get("/info", headers=RELEASE_0_1).content)


def test_one_gold_model_has_no_others() -> None:
    with service_with("a") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        reply = scored(client, ITEMS)

    assert [result.other_gold_rewards for result in reply.results] == [{}, {}]
    assert reply.models.other_gold_revisions == {}


@pytest.mark.parametrize("gold", ["a,a", "a,,b", "a,none", "none,a"])
def test_names_that_are_no_different_models_are_refused(gold: str) -> None:
    with pytest.raises(ConfigurationError, match="must name different models"):
        Settings(gold=gold)


def test_one_key_is_not_sent_to_several_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_GOLD_API_KEY", "sesame-1b2c")
    settings = Settings(gold="tei+http://one,tei+http://two", encoder="none", default_recipe="li")

    with pytest.raises(ConfigurationError, match="GLASSBOX_GOLD_API_KEY is the key of one server"):
        create_app(settings)


def test_the_option_is_given_once_a_model() -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    settings, _ = read_settings(parser.parse_args(["--gold", "a", "--gold", "b"]))

    assert settings.golds == ["a", "b"]
