"""The adapter of ms-swift without ms-swift: what it makes of a batch, and which features it offers for the log."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from reward_client import Item, QueryType, RewardClient, RewardError
from reward_client.adapters.swift import Glassbox, reward_functions
from reward_service.settings import Settings
from tests.live import serving

CONVERSATIONS = [
    [{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "a b"}],
    [{"role": "user", "content": "a b c"}, {"role": "assistant", "content": "c c"}],
]
COMPLETIONS = ["a b", "c c"]
COLUMNS = {"reference": [None, "c d"], "query_type": [None, "closed_ended"]}
ITEMS = [
    Item(prompt="a b c", response="a b"),
    Item(prompt="a b c", response="c c", reference="c d", query_type=QueryType.CLOSED_ENDED),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(default_recipe="rer")) as url:
        yield url


@pytest.fixture(autouse=True)
def _environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSBOX_URL", url)
    monkeypatch.setenv("GLASSBOX_LOG_FEATURES", "reference_relevance, truncated")


def arguments(*weights: float, **others: object) -> SimpleNamespace:
    return SimpleNamespace(reward_weights=list(weights) or None, **others)


def test_the_prompt_is_the_conversation_before_the_response(url: str) -> None:
    with RewardClient(url) as client:
        expected = client.score(ITEMS).rewards

    assert Glassbox()(COMPLETIONS, messages=CONVERSATIONS, **COLUMNS) == expected


def test_a_sample_without_a_reward_raises() -> None:
    with pytest.raises(RewardError, match="1 of 2 samples cannot be scored: sample 1: reference"):
        Glassbox()(COMPLETIONS, messages=CONVERSATIONS, query_type=[None, "closed_ended"])


def test_features_and_truncation_are_functions_of_weight_0() -> None:
    functions = reward_functions()
    scored = functions["glassbox"](args=arguments(1, 0, 0))
    logged = {name: functions[name](args=arguments(1, 0, 0)) for name in list(functions)[1:]}

    scored(COMPLETIONS, messages=CONVERSATIONS, is_truncated=[False, True], **COLUMNS)
    values = {type(function).__name__: function(COMPLETIONS) for function in logged.values()}

    assert values == {
        "glassbox/reference_relevance": [None, pytest.approx(0.70710678)],
        "glassbox/truncated": [0, 1],
    }


@pytest.mark.parametrize("weights", [(), (1, 1, 0), (1, 0), (1, 0, 0, 0)])
def test_a_feature_that_would_count_in_the_reward_is_an_error(weights: tuple[float, ...]) -> None:
    with pytest.raises(
        RewardError, match=r"glassbox/reference_relevance is a logged feature: .*--reward_weights 1 0 0"
    ):
        reward_functions()["glassbox/reference_relevance"](args=arguments(*weights))


def test_features_are_an_error_where_every_function_is_scaled() -> None:
    with pytest.raises(RewardError, match="gdpo"):
        reward_functions()["glassbox/truncated"](args=arguments(1, 0, 0, scale_rewards="gdpo"))


def test_a_feature_before_the_reward_is_an_error() -> None:
    feature = reward_functions()["glassbox/truncated"](args=arguments(1, 0, 0))

    with pytest.raises(RewardError, match="name glassbox before glassbox/truncated"):
        feature(list(COMPLETIONS))


def test_the_printed_path_is_a_plug_in_in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """ms-swift puts the folder first on the import path: a module `trl` in it would replace the package."""
    command = [sys.executable, "-m", "reward_client.adapters.swift"]
    plugin = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    orms: dict[str, type] = {}
    monkeypatch.setitem(sys.modules, "swift", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "swift.rewards", SimpleNamespace(orms=orms))
    monkeypatch.syspath_prepend(str(plugin.parent))

    importlib.import_module(plugin.stem)

    assert [file.name for file in plugin.parent.glob("*.py")] == ["glassbox_swift.py"]
    assert orms["glassbox"] is Glassbox
