"""Atropos: its registry makes the reward function, its environment scores a group and posts it to the trainer.

The trainer is a fake server that keeps what it receives.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from atroposlib.envs.base import APIServerConfig, BaseEnv, BaseEnvConfig
from atroposlib.envs.reward_fns import registry
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from reward_client.adapters.atropos import drop_unscored
from tests.frameworks.process import ServiceProcess

QUESTION = "What is two plus two?"
PROMPT = [{"role": "user", "content": QUESTION}]
RESPONSES = ["Four", "It is the number four, I think."]
ITEMS = [
    {"prompt": QUESTION, "response": response, "reference": "Four", "query_type": "closed_ended"}
    for response in RESPONSES
]
GROUP: dict[str, Any] = {
    "completions": [[{"role": "assistant", "content": response}] for response in RESPONSES],
    "prompts": [PROMPT] * 2,
    "reference": "Four",
}


class Log:
    """A fake of Weights & Biases."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def log(self, metrics: dict[str, float]) -> None:
        self.metrics |= metrics


class Trainer:
    """A fake of the server that groups are posted to."""

    def __init__(self) -> None:
        self.groups: list[dict[str, Any]] = []
        groups = self.groups

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                packed = self.headers.get("content-encoding") == "gzip"
                groups.append(json.loads(gzip.decompress(body) if packed else body))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                """No access log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Environment(BaseEnv):  # type: ignore[misc]
    """An environment whose policy gives the responses of `GROUP`."""

    reward: Any = None

    async def get_next_item(self) -> None:
        return None

    async def evaluate(self, *args: Any, **kwargs: Any) -> None:
        return None

    async def collect_trajectories(self, item: dict[str, Any]) -> tuple[Any, list[Any]]:
        scores = self.reward(**item)
        n = len(scores)
        group = {
            "tokens": [[0]] * n,
            "masks": [[0]] * n,
            "scores": scores,
            "messages": None,
            "group_overrides": {},
        }
        return group, []

    async def postprocess_histories(self, trajectories: Any) -> Any:
        return drop_unscored(trajectories)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    running = Trainer()
    yield running
    running.stop()


def posted(trainer: Trainer, tokenizer: str, item: dict[str, Any], **settings: Any) -> list[list[float]]:
    """Scores of the groups that the trainer receives for one item."""
    config = BaseEnvConfig(
        group_size=2, use_wandb=False, tokenizer_name=tokenizer, rollout_server_url=trainer.url, max_num_workers=1
    )
    env = Environment(config, [APIServerConfig(model_name="none", api_key="none")], testing=True)
    env.reward = registry.create({"type": "glassbox", **settings})
    env.running_items["item"] = {"item": item}
    asyncio.run(env.handle_env("item"))
    return [group["scores"] for group in trainer.groups]


def test_the_trainer_receives_the_rewards_of_the_service(
    service: ServiceProcess, trainer: Trainer, tokenizer: str
) -> None:
    scores = posted(trainer, tokenizer, GROUP, url=service.url)

    assert scores == [pytest.approx(service.score(ITEMS)["rewards"], rel=1e-6)]


def test_the_weight_of_the_registry_multiplies_them(service: ServiceProcess) -> None:
    weighted = registry.create({"type": "glassbox", "weight": 2.0, "url": service.url})(**GROUP)

    assert weighted == pytest.approx([2 * reward for reward in service.score(ITEMS)["rewards"]], rel=1e-6)


def test_a_conversation_has_its_prompt_with_it(service: ServiceProcess) -> None:
    conversations = [[*PROMPT, {"role": "assistant", "content": response}] for response in RESPONSES]

    scores = registry.create("glassbox", url=service.url)(conversations, reference="Four")

    assert scores == pytest.approx(service.score(ITEMS)["rewards"], rel=1e-6)


def test_features_are_logged_beside_the_rewards(service: ServiceProcess) -> None:
    results = service.score(ITEMS)["results"]
    reward, log = registry.create("glassbox", url=service.url), Log()
    reward.set_wandb_logger(log)

    reward([*GROUP["completions"], "unanswered"], prompts=[PROMPT, PROMPT, ""], reference="Four")

    for name in ("length_incentive", "reference_relevance"):
        values = [result["features"][name] for result in results]
        assert log.metrics[f"glassbox/{name}"] == pytest.approx(sum(values) / 2, rel=1e-6)
    mean = sum(result["reward"] for result in results) / 2
    assert log.metrics["reward/glassbox/mean_raw"] == pytest.approx(mean, rel=1e-6)


def test_it_waits_for_a_service_that_comes_back(service: ServiceProcess, trainer: Trainer, tokenizer: str) -> None:
    direct = service.score(ITEMS)["rewards"]
    with service.away():
        scores = posted(trainer, tokenizer, GROUP, url=service.url)

    assert scores == [pytest.approx(direct, rel=1e-6)]


def test_the_trainer_receives_nothing_when_the_service_stays_away(
    service: ServiceProcess, trainer: Trainer, tokenizer: str
) -> None:
    with service.stopped():
        assert posted(trainer, tokenizer, GROUP, url=service.url, deadline_s=1) == []


def test_the_trainer_receives_no_group_with_a_response_that_cannot_be_scored(
    service: ServiceProcess, trainer: Trainer, tokenizer: str
) -> None:
    item = GROUP | {"reference": ["Four", None], "query_type": "closed_ended"}
    scores = registry.create("glassbox", url=service.url)(**item)

    assert scores[0] == pytest.approx(service.score(ITEMS[:1])["rewards"][0], rel=1e-6)
    assert math.isnan(scores[1])
    assert posted(trainer, tokenizer, item, url=service.url) == []


def test_the_trainer_receives_nothing_for_nan_of_a_model(
    nan_service: ServiceProcess, trainer: Trainer, tokenizer: str
) -> None:
    assert posted(trainer, tokenizer, GROUP, url=nan_service.url) == []


def test_the_trainer_receives_nothing_with_a_wrong_key(
    keyed_service: ServiceProcess, trainer: Trainer, tokenizer: str
) -> None:
    assert posted(trainer, tokenizer, GROUP, url=keyed_service.url, api_key="wrong") == []


def test_groups_without_a_reward_are_dropped_from_a_list() -> None:
    good, bad = {"scores": [1.0, 2.0]}, {"scores": [1.0, math.nan]}

    assert drop_unscored([good, bad, None]) == [good]
    assert drop_unscored([bad]) is None
    assert drop_unscored(good) == good
    assert drop_unscored(None) is None
