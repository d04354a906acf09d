"""Several gold models of one service: one is the primary one, the others are reported beside it."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from reward_client.wire import Info, ScoreReply
from reward_service.__main__ import configure, read_settings
from reward_service.app import create_app
from reward_service.errors import ConfigurationError
from reward_service.models.protocols import Tokens
from reward_service.settings import Settings
from tests.api.test_wire_version import RELEASE_0_1, posted_by_0_1
from tests.doubles import LengthGold, LetterEncoder, text_of
from tests.fixtures import wire_0_1
from tests.live import metric, serving, until

ITEMS = [{"prompt": "a b", "response": "c d"}, {"prompt": "a b", "response": "c d e f"}]


@dataclass
class NegativeGold(LengthGold):
    """Scores an exchange by minus the length of its response; "ODD" in it is an error, "INF" no finite score."""

    def tokenize(self, exchange: Any) -> Tokens:
        tokens = super().tokenize(exchange)
        return Tokens(tokens.input_ids, flags=("gold_prompt_adapted",)) if "ADAPT" in exchange.response else tokens

    gate: threading.Event = field(default_factory=threading.Event)
    """`score` waits while it is set."""
    blocked: threading.Event = field(default_factory=threading.Event)
    """Set when it does."""

    def score(self, batch: Any) -> list[float]:
        if self.gate.is_set():
            self.blocked.set()
            until(lambda: not self.gate.is_set())
        texts = [text_of(tokens) for tokens in batch]
        if any("ODD" in text for text in texts):
            raise RuntimeError("odd")
        return [float("inf") if "INF" in text else -len(text) / 10 for text in texts]


class Service:
    """A service with the gold models `gold`, of which `b` is a NegativeGold and `broken` cannot be loaded."""

    def __init__(self, gold: str, **settings: Any) -> None:
        self.models: dict[str, LengthGold] = {}
        self.settings = Settings(gold=gold, **{"encoder": "none", "default_recipe": "li"} | settings)

    def load(self, settings: Settings) -> LengthGold:
        if settings.gold == "broken":
            raise ValueError("its weights are missing")
        name = settings.gold
        common: dict[str, Any] = {"id": name, "revision": f"{name}-1", "notices": (f"of {name}",)}
        model = NegativeGold(**common, encoder_base="letters") if name == "b" else LengthGold(**common)
        self.models[name] = model
        return model

    @contextmanager
    def client(self, *, ready: bool = True) -> Iterator[TestClient]:
        app = create_app(self.settings, gold_loader=self.load, encoder_loader=lambda _: LetterEncoder())
        with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
            if ready:
                until(lambda: client.get("/readyz").status_code == 200)
            yield client


@pytest.fixture
def both() -> Iterator[TestClient]:
    with Service("a,b").client() as client:
        yield client


def scored(client: TestClient, items: list[dict[str, Any]], **options: Any) -> ScoreReply:
    reply = client.post("/score", json={"items": items, "gold": True, **options})
    assert reply.status_code == 200, reply.text
    return ScoreReply.model_validate_json(reply.content)


def test_each_gold_model_scores_and_the_first_one_is_the_primary(both: TestClient) -> None:
    reply = scored(both, ITEMS)

    assert [result.gold_reward for result in reply.results] == [0.3, 0.7]
    assert [list(result.golds.items()) for result in reply.results] == [
        [("a", 0.3), ("b", -0.3)],
        [("a", 0.7), ("b", -0.7)],
    ]
    assert (reply.models.gold, reply.models.gold_revision) == ("a", "a-1")
    assert list(reply.models.golds.items()) == [("a", "a-1"), ("b", "b-1")]


def test_primary_gold_names_another_one() -> None:
    with Service("a,b", primary_gold="b").client() as client:
        reply = scored(client, ITEMS)
        info = Info.model_validate_json(client.get("/info").content)

    assert [result.gold_reward for result in reply.results] == [-0.3, -0.7]
    assert list(reply.results[0].golds) == ["b", "a"]
    assert reply.models.gold == "b"
    assert info.gold is not None
    assert info.gold.id == "b"


def test_the_description_of_the_service_has_all_of_them(both: TestClient) -> None:
    info = Info.model_validate_json(both.get("/info").content)

    assert info.gold is not None
    assert (info.gold.id, [one.id for one in info.golds]) == ("a", ["a", "b"])


def test_metrics_number_the_models(both: TestClient) -> None:
    """A label of a metric is not an id, which may be a long URL."""
    scored(both, ITEMS)

    metrics = both.get("/metrics").text

    assert 'glassbox_batch_items_count{model="gold"}' in metrics
    assert 'glassbox_batch_items_count{model="gold-2"}' in metrics


def test_notices_of_each_model_are_in_replies_and_its_own_in_the_description() -> None:
    with Service("a,b", encoder="letters").client() as client:
        notices = scored(client, ITEMS).notices
        info = Info.model_validate_json(client.get("/info").content)

    assert notices[:2] == ["of a", "of b"]
    assert "b is fitted on letters, which is also the relevance encoder" in notices[2]
    assert [one.notices for one in info.golds] == [["of a"], notices[1:]]


def test_a_recipe_whose_reward_is_gold_needs_the_primary_one_only(both: TestClient) -> None:
    reply = both.post("/score", json={"items": ITEMS, "recipe": "gold"}).json()

    assert reply["rewards"] == [0.3, 0.7]
    assert "golds" not in reply["results"][0]
    assert reply["notices"] == ["of a"]


def test_a_protocol_without_a_place_for_several_scores_asks_the_primary_one_only() -> None:
    service = Service("a,b")
    with service.client() as client:
        before = len(service.models["b"].seen)
        reply = client.post("/get_reward?gold=true", json={"query": ["a bc d"], "prompts": ["a b"]})

    assert reply.status_code == 200, reply.text
    assert reply.json()["extra_logs"]["gold_reward"] == [0.3]
    assert len(service.models["b"].seen) == before


def test_a_reward_model_server_serves_the_primary_one_and_says_so(both: TestClient) -> None:
    reply = both.post("/classify", json={"model": "b", "input": "four"}).json()

    assert reply["data"][0]["probs"] == [0.4]
    assert any("names the model 'b'; these are scores of 'a'" in notice for notice in reply["notices"])
    assert [model["id"] for model in both.get("/v1/models").json()["data"]] == ["a"]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("ODD", "the gold-2 model b failed: odd"),
        ("INF", "the gold-2 model b answered inf, which is no score"),
        ("UNREAD", "the gold model a cannot read this exchange"),
    ],
)
def test_an_item_that_one_of_them_fails_on_has_an_error(both: TestClient, response: str, message: str) -> None:
    items = [ITEMS[0], {"prompt": "a", "response": response}, ITEMS[1]]
    first, second, third = scored(both, items, on_item_error="report").results

    assert (first.golds, third.golds) == ({"a": 0.3, "b": -0.3}, {"a": 0.7, "b": -0.7})
    assert (second.reward, second.gold_reward, second.golds) == (None, None, {})
    assert second.error is not None
    assert message in second.error.message


@pytest.mark.parametrize("recipe", ["li", "gold"])
@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("ODD", "the gold model b failed: odd"),
        ("INF", "the gold model b answered inf, which is no score"),
        ("UNREAD", "the gold model b cannot read this exchange"),
    ],
)
def test_an_error_of_the_primary_one_names_it(recipe: str, response: str, message: str) -> None:
    body = {"items": [{"prompt": "a", "response": response}], "gold": recipe == "li", "recipe": recipe}
    with Service("a,b", primary_gold="b").client() as client:
        reply = client.post("/score", json=body)

    assert reply.status_code in (422, 500)
    assert message in reply.text


@pytest.mark.parametrize(
    ("text", "message"), [("ODD", "the gold model b failed: odd"), ("INF", "the gold model b answered inf")]
)
def test_an_error_on_a_route_of_reward_model_servers_names_the_primary_one(text: str, message: str) -> None:
    with Service("a,b", primary_gold="b").client() as client:
        assert message in client.post("/classify", json={"model": "b", "input": text}).text


def test_a_failure_of_one_of_them_fails_the_request(both: TestClient) -> None:
    reply = both.post("/score", json={"items": [*ITEMS, {"prompt": "a", "response": "ODD"}], "gold": True})

    assert reply.status_code == 500
    assert "items.2.response" in reply.text


def test_a_full_queue_of_one_of_them_refuses_requests() -> None:
    golds = Service("a,b", max_waiting_items=1)
    with serving(golds.settings, gold_loader=golds.load) as url, ThreadPoolExecutor(2) as pool:

        def post(response: str) -> httpx.Response:
            body = {"items": [{"prompt": "a", "response": response}], "gold": True}
            return httpx.post(f"{url}/score", json=body, timeout=30)

        def wait_for(of_a: int, of_b: int) -> None:
            names = {"gold": of_a, "gold-2": of_b}
            until(
                lambda: all(metric(url, f'glassbox_waiting_items{{model="{m}"}}') == n for m, n in names.items())
            )

        gold = golds.models["b"]
        assert isinstance(gold, NegativeGold)
        gold.gate.set()
        computed = pool.submit(post, "c")
        until(gold.blocked.is_set)
        wait_for(0, 0)
        waiting = pool.submit(post, "c d")
        wait_for(0, 1)
        refused = post("c d e")
        gold.gate.clear()

        assert computed.result().status_code == waiting.result().status_code == 200
    assert refused.status_code == 429
    assert "1 items wait for the gold-2 model b" in refused.json()["detail"]


def test_flags_of_all_models_are_in_the_result(both: TestClient) -> None:
    assert "gold_prompt_adapted" in scored(both, [{"prompt": "a", "response": "ADAPT"}]).results[0].flags


def test_a_service_with_a_model_that_is_not_loaded_is_not_ready() -> None:
    with Service("a,broken").client(ready=False) as client:
        until(lambda: "its weights are missing" in client.get("/readyz").text)
        reply = client.post("/score", json={"items": ITEMS, "gold": True})

    assert reply.status_code == 503
    assert "the gold-2 model broken could not be loaded" in reply.text


def test_the_client_of_0_1_reads_the_primary_one(both: TestClient) -> None:
    reply = wire_0_1.ScoreReply.model_validate_json(posted_by_0_1(both, {"items": ITEMS, "gold": True}).content)

    assert [result.gold_reward for result in reply.results] == [0.3, 0.7]
    wire_0_1.Info.model_validate_json(both.get("/info", headers=RELEASE_0_1).content)


@pytest.mark.parametrize("n_items", [2, 600])
def test_replies_of_one_gold_model_have_nothing_new(n_items: int) -> None:
    with Service("a").client() as client:
        reply = client.post("/score", json={"items": ITEMS * (n_items // 2), "gold": True})
        info = client.get("/info")

    assert b'"golds"' not in reply.content + info.content
    assert len(ScoreReply.model_validate_json(reply.content).results) == n_items


@pytest.mark.parametrize("gold", ["a,a", "a,,b", "a,none", "none,a"])
def test_names_that_are_no_different_models_are_refused(gold: str) -> None:
    with pytest.raises(ConfigurationError, match="must name different models"):
        Settings(gold=gold)


@pytest.mark.parametrize("gold", ["a,b", "none"])
def test_a_primary_model_that_is_none_of_them_is_refused(gold: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"--primary-gold 'c' is no gold model of this service: those are"
    ):
        Settings(gold=gold, primary_gold="c")


def test_one_key_is_not_sent_to_several_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_GOLD_API_KEY", "sesame-1b2c")
    settings = Settings(gold="tei+http://one,tei+http://two", encoder="none", default_recipe="li")

    with pytest.raises(ConfigurationError, match="GLASSBOX_GOLD_API_KEY is the key of one server"):
        create_app(settings)


@pytest.mark.parametrize("same", ["http://ONE", "http://one:80", "http://one/"])
def test_one_server_may_be_written_in_several_ways(monkeypatch: pytest.MonkeyPatch, same: str) -> None:
    monkeypatch.setenv("GLASSBOX_GOLD_API_KEY", "sesame-1b2c")
    gold = f"vllm+http://one?model=a,vllm+{same}?model=b"

    assert create_app(Settings(gold=gold, encoder="none", default_recipe="li")).title == "Glassbox"


def test_the_option_is_given_once_a_model() -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    settings, _ = read_settings(parser.parse_args(["--gold", "a", "--gold", "b", "--primary-gold", "b"]))

    assert settings.golds == ["b", "a"]


def test_a_folder_whose_name_has_a_comma_is_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "my,gold"
    folder.mkdir()

    assert Settings(gold=str(folder)).golds == [str(folder)]


@pytest.mark.parametrize(
    ("given", "golds"),
    [
        (["./my,own,gold", "c"], ["./my,own,gold", "c"]),
        (["c", "./my,own,gold"], ["c", "./my,own,gold"]),
        (["c, my,own,gold ,d"], ["c", "my,own,gold", "d"]),
        (["my,own,gold", "my,own,gold-2", "my"], ["my,own,gold", "my,own,gold-2", "my"]),
        (["my,other"], ["my", "other"]),
    ],
)
def test_a_folder_whose_name_has_a_comma_may_be_one_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], golds: list[str]
) -> None:
    for name in ("my", "my,own,gold", "my,own,gold-2"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    configure(parser)
    settings, _ = read_settings(parser.parse_args([word for name in given for word in ("--gold", name)]))

    assert settings.golds == golds
