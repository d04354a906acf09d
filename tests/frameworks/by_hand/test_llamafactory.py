"""LLaMA-Factory's own reward client with the service, from an unpacked wheel of LLaMA-Factory.

    pip download --no-deps llamafactory==0.9.5 && unzip llamafactory-0.9.5-*.whl -d unpacked
    LLAMAFACTORY_CHECKOUT=unpacked GLASSBOX_SERVICE_PYTHON=.venv/bin/python PYTHONPATH=client \\
        .venv/bin/python -m pytest -q --confcutdir=tests/frameworks tests/frameworks/by_hand/test_llamafactory.py

Needs torch, transformers and requests.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from tests.frameworks.by_hand.checkout import load
from tests.frameworks.process import ServiceProcess

CHECKOUT = os.environ.get("LLAMAFACTORY_CHECKOUT")
ITEMS = [
    {"prompt": "Why is the sky blue?", "response": "Air scatters blue light more than red."},
    {"prompt": "What is two plus two?", "response": "Four"},
]
TEXTS = [
    f"<|im_start|>user\n{item['prompt']}<|im_end|>\n<|im_start|>assistant\n{item['response']}<|im_end|>\n"
    for item in ITEMS
]


@pytest.fixture(scope="module")
def client() -> ModuleType:
    if CHECKOUT is None:
        pytest.skip("LLAMAFACTORY_CHECKOUT is not set")
    available: dict[str, dict[str, Any]] = {
        "llamafactory.extras.packages": {"is_requests_available": lambda: True}
    }
    return load(Path(CHECKOUT), "llamafactory/train/ppo/ppo_utils.py", available)


def scores(client: ModuleType, url: str, texts: list[str] = TEXTS) -> list[float]:
    found: list[float] = client.get_rewards_from_server(f"{url}/llamafactory", texts).tolist()
    return found


def test_the_rewards_are_those_of_score(client: ModuleType, service: ServiceProcess) -> None:
    expected = service.score(ITEMS)["rewards"]

    assert len(set(expected)) == 2
    assert scores(client, service.url) == pytest.approx(expected, rel=1e-6)


def test_a_key_in_the_url_is_sent(client: ModuleType, keyed_service: ServiceProcess) -> None:
    url = keyed_service.url.replace("://", f"://key:{keyed_service.api_key}@")

    assert scores(client, url) == pytest.approx(keyed_service.score(ITEMS)["rewards"], rel=1e-6)


# Failures -----------------------------------------------------------------------------------------------------


def test_a_service_that_is_away_raises(client: ModuleType, service: ServiceProcess) -> None:
    with service.stopped(), pytest.raises(requests.ConnectionError):
        scores(client, service.url)

    assert scores(client, service.url) == pytest.approx(service.score(ITEMS)["rewards"], rel=1e-6)


def test_a_text_that_cannot_be_scored_raises(client: ModuleType, service: ServiceProcess) -> None:
    with pytest.raises(KeyError, match="scores"):
        scores(client, service.url, [TEXTS[0], "Why? Because."])


def test_nan_of_a_model_raises(client: ModuleType, nan_service: ServiceProcess) -> None:
    with pytest.raises(KeyError, match="scores"):
        scores(client, nan_service.url)


def test_a_missing_key_raises(client: ModuleType, keyed_service: ServiceProcess) -> None:
    with pytest.raises(KeyError, match="scores"):
        scores(client, keyed_service.url)
