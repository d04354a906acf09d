"""slime's and miles' own reward client against the service, from checkouts of their source. Needs aiohttp.

    SLIME_CHECKOUT=… MILES_CHECKOUT=… GLASSBOX_SERVICE_PYTHON=.venv/bin/python PYTHONPATH=client \\
        .venv/bin/python -m pytest -q tests/frameworks/by_hand/test_slime.py
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.frameworks.by_hand.checkout import load
from tests.frameworks.process import ServiceProcess

CHECKOUTS = {name: os.environ.get(f"{name.upper()}_CHECKOUT") for name in ("slime", "miles")}
PROMPT, ANSWER = "Why is the sky blue?", "Air scatters blue light more than red."
SUM = {"prompt": "What is two plus two?", "response": "Four", "reference": "Four", "query_type": "closed_ended"}
QUICK_S = 30.0
"""Longer than any reply here takes, and shorter than slime's ten tries."""


@pytest.fixture(scope="module", params=CHECKOUTS)
def hub(request: pytest.FixtureRequest) -> ModuleType:
    """The framework's module with `async_rm` and `remote_rm`."""
    checkout = CHECKOUTS[request.param]
    if checkout is None:
        pytest.skip(f"{request.param.upper()}_CHECKOUT is not set")
    return load(Path(checkout), f"{request.param}/rollout/rm_hub/__init__.py")


def sample(prompt: Any = PROMPT, response: str = f"{ANSWER}<|im_end|>", label: Any = None) -> SimpleNamespace:
    """What the client reads of a sample."""
    own: dict[str, Any] = {"custom_rm_path": None, "metadata": {}, "reward_spec": None}
    return SimpleNamespace(prompt=prompt, response=response, label=label, **own)


def rewards(hub: ModuleType, url: str, samples: list[SimpleNamespace], seconds: float = QUICK_S) -> list[Any]:
    """What the framework gets for `samples`, sent at once. Raises what its client raises."""

    async def all_of_them() -> list[Any]:
        args = SimpleNamespace(rm_url=url, rm_type="remote_rm", custom_rm_path=None)
        calls: list[Coroutine[Any, Any, Any]] = [hub.async_rm(args, one) for one in samples]
        try:
            return list(await asyncio.wait_for(asyncio.gather(*calls), seconds))
        finally:
            if session := getattr(hub, "_shared_session", None):
                await session.close()

    return asyncio.run(all_of_them())


def native(service: ServiceProcess, **fields: Any) -> dict[str, Any]:
    item = {"prompt": PROMPT, "response": ANSWER} | fields
    result: dict[str, Any] = service.score([item])["results"][0]
    return result


MESSAGES = [{"role": "user", "content": PROMPT}]
RENDERED = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("prompt", [PROMPT, RENDERED, MESSAGES], ids=["text", "rendered", "messages"])
def test_the_reward_is_the_number_of_score(hub: ModuleType, service: ServiceProcess, prompt: Any) -> None:
    expected = native(service)["reward"]

    assert expected > 0
    assert rewards(hub, f"{service.url}/slime", [sample(prompt)]) == [pytest.approx(expected, rel=1e-6)]


def test_a_label_is_the_reference(hub: ModuleType, service: ServiceProcess) -> None:
    posted = sample(SUM["prompt"], "Four<|im_end|>", SUM["reference"])

    found = rewards(hub, f"{service.url}/slime", [posted])

    assert found == [pytest.approx(native(service, **SUM)["reward"], rel=1e-6)]


def test_keyed_rewards_have_the_features(hub: ModuleType, service: ServiceProcess) -> None:
    expected = native(service)

    (found,) = rewards(hub, f"{service.url}/slime?keyed=1", [sample()])

    features = {name: value for name, value in expected["features"].items() if value is not None}
    assert found == pytest.approx(features | {"score": expected["reward"]}, rel=1e-6)


def test_two_hundred_samples_at_once_are_all_scored(hub: ModuleType, service: ServiceProcess) -> None:
    answers = [f"{ANSWER} {'blue ' * (number % 7)}" for number in range(200)]

    found = rewards(hub, f"{service.url}/slime", [sample(response=answer) for answer in answers], 120)

    items = [{"prompt": PROMPT, "response": answer} for answer in answers]
    assert found == pytest.approx(service.score(items)["rewards"], rel=1e-6)


def test_a_key_in_the_url_is_sent(hub: ModuleType, keyed_service: ServiceProcess) -> None:
    url = keyed_service.url.replace("://", f"://key:{keyed_service.api_key}@")

    (found,) = rewards(hub, f"{url}/slime", [sample()])

    assert found == pytest.approx(native(keyed_service)["reward"], rel=1e-6)


# Failures: slime repeats for more than a minute, and miles not at all; neither ever gets a number ---------------


def fails(hub: ModuleType, url: str, one: SimpleNamespace) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - slime is still repeating, miles has aiohttp's error
        rewards(hub, url, [one], 8)
    error = raised.value
    assert isinstance(error, TimeoutError) or hasattr(error, "status") or "connect" in str(error)


@pytest.mark.parametrize("url", ["/slime", "/slime?keyed=1"])
def test_a_sample_that_cannot_be_scored_gets_no_number(hub: ModuleType, service: ServiceProcess, url: str) -> None:
    fails(hub, f"{service.url}{url}", sample(label={"query_type": "closed_ended"}))


def test_a_model_that_answers_nan_gives_no_number(hub: ModuleType, nan_service: ServiceProcess) -> None:
    fails(hub, f"{nan_service.url}/slime", sample())


def test_a_wrong_key_gives_no_number(hub: ModuleType, keyed_service: ServiceProcess) -> None:
    fails(hub, f"{keyed_service.url}/slime", sample())


def test_a_service_that_stays_away_gives_no_number(hub: ModuleType, service: ServiceProcess) -> None:
    with service.stopped():
        fails(hub, f"{service.url}/slime", sample())


def test_slime_waits_for_a_service_that_comes_back(hub: ModuleType, service: ServiceProcess) -> None:
    if hub.__name__.startswith("miles"):
        pytest.skip("miles does not repeat a request")
    expected = native(service)["reward"]

    with service.away(20):
        found = rewards(hub, f"{service.url}/slime", [sample()], 150)

    assert found == [pytest.approx(expected, rel=1e-6)]
