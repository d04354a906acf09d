"""OpenRLHF loads the adapter as a file with `reward_func`, and trains on the service's rewards."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from reward_service.settings import Settings
from tests.contract.test_openrlhf_reward_client import PROMPT, agent, execute
from tests.json_server import json_server
from tests.live import serving

pytestmark = [
    pytest.mark.slow,
    # OpenRLHF loads the file again for each executor, and closes nothing.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KEY = "sesame-9f27c1d4"
LABEL = json.dumps({"query_type": "closed_ended", "reference": "Eight legs."})


@pytest.fixture(scope="module")
def file() -> str:
    """The path that the documented command prints."""
    command = [sys.executable, "-m", "reward_client.adapters.openrlhf"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(api_key=KEY, max_text_chars=1000)) as url:
        yield url


@pytest.fixture
def environment(url: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings of the adapter, as a run would have them; a test changes them."""
    monkeypatch.setenv("GLASSBOX_URL", url)
    monkeypatch.setenv("GLASSBOX_API_KEY", KEY)
    monkeypatch.setenv("GLASSBOX_RECIPE", "rer")
    return monkeypatch


@contextmanager
def replying(*replies: tuple[int, bytes]) -> Iterator[str]:
    """URL of a server that sends `replies` in order, and the last one from then on."""
    left = list(replies)
    with json_server(lambda _: left.pop(0) if len(left) > 1 else left[0]) as url:
        yield url


def test_the_rollout_has_the_reward_and_the_features_of_the_service(
    file: str, url: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("GLASSBOX_RUN", "my run")
    environment.setenv("GLASSBOX_GOLD", "true")
    body = {"query": [f"{PROMPT}Eight legs.<|im_end|>"], "prompts": [PROMPT], "labels": [LABEL]}
    direct = httpx.post(f"{url}/get_reward?recipe=rer&gold=true", json=body, auth=("key", KEY)).json()

    output = execute([file], label=LABEL)

    assert output["reward"] == direct["rewards"]
    assert output["scores"] == direct["scores"]
    assert output["extra_logs"] == direct["extra_logs"]
    assert {"closed_ended", "gold_reward"} <= set(output["extra_logs"])


def test_a_bare_reference_has_the_default_query_type(file: str, environment: pytest.MonkeyPatch) -> None:
    assert execute([file], label="Eight legs.")["reward"] == execute([file], label=LABEL)["reward"]

    environment.setenv("GLASSBOX_QUERY_TYPE_DEFAULT", "error")
    assert execute([file], label="Eight legs.")["reward"] is None


def test_references_that_the_service_keeps_are_found(file: str, url: str, environment: pytest.MonkeyPatch) -> None:
    row = {"prompt": "How many legs has a spider?", "reference": "Eight legs.", "query_type": "closed_ended"}
    assert httpx.put(f"{url}/datasets/legs", json=row, auth=("key", KEY)).status_code == 200
    environment.setenv("GLASSBOX_DATASET", "legs")

    assert execute([file])["reward"] == execute([file], label=LABEL)["reward"]


def test_a_service_that_is_away_for_a_while_costs_no_reward(file: str, environment: pytest.MonkeyPatch) -> None:
    reply = json.dumps({"rewards": [0.5], "scores": [0.5], "extra_logs": {}}).encode()
    with replying((503, b"{}"), (502, b"{}"), (200, reply)) as away:
        environment.setenv("GLASSBOX_URL", away)

        assert execute([file])["reward"] == [0.5]


def test_a_replica_takes_over(file: str, url: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GLASSBOX_URL", f"http://127.0.0.1:9,{url}")

    assert execute([file])["reward"] is not None


@pytest.mark.parametrize(
    ("variable", "value", "cause"),
    [
        ("GLASSBOX_URL", "http://127.0.0.1:9", "127.0.0.1:9"),
        ("GLASSBOX_API_KEY", "barley", "401"),
        ("GLASSBOX_RECIPE", "no-such-recipe", "no-such-recipe"),
        ("GLASSBOX_DEADLINE_S", "soon", "GLASSBOX_DEADLINE_S"),
    ],
)
def test_a_failure_gives_no_reward_and_an_error_in_the_log(
    file: str,
    environment: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
    cause: str,
) -> None:
    environment.setenv("GLASSBOX_DEADLINE_S", "0.5")
    environment.setenv(variable, value)

    output = execute([file])

    assert (output["reward"], output["scores"]) == (None, None)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert cause in " ".join(errors)


@pytest.mark.parametrize(
    "rewards", [b"[NaN]", b"[Infinity]", b"[1e999]", b"[]", b"[1, 2]", b"[null]", b"null", b'["1"]', b"[true]"]
)
def test_a_reply_without_one_finite_reward_is_an_error(
    file: str, environment: pytest.MonkeyPatch, rewards: bytes
) -> None:
    with replying((200, b'{"rewards": ' + rewards + b', "scores": [0.5], "extra_logs": {}}')) as wrong:
        environment.setenv("GLASSBOX_URL", wrong)

        assert execute([file])["reward"] is None


def test_a_sample_that_cannot_be_scored_and_a_broken_model_give_no_reward(
    file: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("GLASSBOX_DEADLINE_S", "2")

    assert execute([file], answer="x" * 2000 + "<|im_end|>")["reward"] is None
    assert execute([file], answer="NAN<|im_end|>")["reward"] is None
    assert agent.SingleTurnAgentExecutor([file]).reward_func is not None
