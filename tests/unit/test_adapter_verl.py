"""The reward function for verl, without verl: its values have constant names, and it does not guess a prompt."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from reward_client import RewardError
from reward_client.adapters.samples import Sample
from reward_client.adapters.scorer import Scorer
from reward_client.adapters.verl import compute_score
from reward_service.settings import Settings
from tests.live import serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(max_text_chars=1000, default_recipe="rer")) as url:
        yield url


def score(response: str, truth: Any, row: dict[str, Any], **settings: Any) -> dict[str, float | None]:
    """As verl's manager calls it."""
    values = {"data_source": "x", "solution_str": response, "ground_truth": truth, "extra_info": row}
    return asyncio.run(compute_score(**values, **settings))


def test_every_sample_has_the_same_names_and_numbers_for_all_of_them(url: str) -> None:
    rows = [("a b", "", {"prompt": "a b c"}), ("a b", "a b", {"prompt": "a b c"}), ("", None, {"prompt": "a"})]

    values = [score(*row, url=url) for row in rows]

    assert values[0].keys() == values[1].keys() == values[2].keys()
    assert {"score", "glassbox/query_relevance", "glassbox/reference_relevance"} <= values[0].keys()
    assert all(isinstance(value, float) for one in values for value in one.values())


def test_columns_are_those_of_the_settings(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = np.array([{"role": "user", "content": "a b c"}], object)
    with closing(Scorer(url=url)) as scorer:
        (expected,) = scorer.score([Sample("a b c", "a b", "d e", "closed_ended")])
    row = {"question": messages, "answer": "d e", "kind": "closed_ended"}
    columns = {"prompt_column": "question", "reference_column": "answer", "query_type_column": "kind"}

    assert score("a b", "other", row, url=url, **columns)["score"] == expected.reward
    for name, column in columns.items():
        monkeypatch.setenv(f"GLASSBOX_{name.upper()}", column)
    assert score("a b", "other", row, url=url)["score"] == expected.reward


@pytest.mark.parametrize("absent", [None, "", float("nan")])
def test_a_reference_that_is_null_in_the_row_is_the_ground_truth(url: str, absent: Any) -> None:
    row = {"prompt": "a b c"}

    assert score("a b", "d e", row | {"reference": absent}, url=url) == score("a b", "d e", row, url=url)


def test_a_reference_column_that_a_setting_names_must_exist(url: str) -> None:
    with pytest.raises(RewardError, match="reference_column is 'answer'"):
        score("a b", "d e", {"prompt": "a b c"}, url=url, reference_column="answer")


@pytest.mark.parametrize("row", [{}, {"question": "a b c"}, {"prompt": None}])
def test_a_row_without_the_prompt_s_key_is_an_error_that_names_it(url: str, row: dict[str, Any]) -> None:
    with pytest.raises(RewardError, match=r"extra_info has no 'prompt'.*prompt_column"):
        score("a b", None, row, url=url)


@pytest.mark.parametrize(
    ("settings", "response", "cause"),
    [
        ({}, "x" * 1001, "response"),
        ({"deadline_s": 2}, "NAN", "finite"),
        ({"url": "http://127.0.0.1:9", "deadline_s": 0.2}, "a", "127.0.0.1:9"),
        ({"recipe": "rerr"}, "a", "rerr"),
        ({"urls": "x"}, "a", "urls"),
    ],
)
def test_a_failure_raises_an_error_that_can_be_pickled(
    url: str, settings: dict[str, Any], response: str, cause: str
) -> None:
    with pytest.raises(RewardError, match=cause) as caught:
        score(response, None, {"prompt": "a b c"}, **({"url": url} | settings))

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301
