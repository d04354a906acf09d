"""What all adapters share: settings from the environment, samples in the forms of frameworks, and their scores."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reward_client import QueryType, RewardClient, RewardError, RewardRejectedError, RewardUnavailableError
from reward_client.adapters.samples import Sample, column
from reward_client.adapters.scorer import Scored, Scorer, rewards
from reward_client.adapters.settings import AdapterSettings
from reward_client.datasets import put_dataset
from reward_client.wire import DatasetRow
from reward_service.settings import Settings
from tests.live import serving, until
from tests.unit.client_server import Served
from tests.unit.client_server import serving as scripted


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Settings(max_text_chars=1000, default_recipe="rer")) as url:
        yield url


MakeScorer = Callable[..., Scorer]


@pytest.fixture
def scorer(url: str) -> Iterator[MakeScorer]:
    """Makes scorers with the given settings, and closes them."""
    with ExitStack() as stack:
        yield lambda **given: stack.enter_context(
            closing(Scorer(AdapterSettings.load({}, **({"url": url, "deadline_s": 5} | given))))
        )


# Settings -----------------------------------------------------------------------------------------------------


def test_settings_come_from_keywords_then_the_environment() -> None:
    environ = {"GLASSBOX_URL": "http://a:1, http://b:2", "GLASSBOX_RECIPE": "rer", "GLASSBOX_GOLD": "true"}

    settings = AdapterSettings.load(environ, recipe="li", run=None)

    assert (settings.url, settings.recipe, settings.gold) == (("http://a:1", "http://b:2"), "li", True)
    assert AdapterSettings.load({}).url == ("http://127.0.0.1:8000",)


@pytest.mark.parametrize(
    ("environ", "given", "named"),
    [
        ({"GLASSBOX_DEADLINE_S": "soon"}, {}, "GLASSBOX_DEADLINE_S"),
        ({"GLASSBOX_DEADLINE_S": "inf"}, {}, "GLASSBOX_DEADLINE_S"),
        ({"GLASSBOX_QUERY_TYPE_DEFAULT": "closed"}, {}, "GLASSBOX_QUERY_TYPE_DEFAULT"),
        ({}, {"deadline_s": 0}, "deadline_s"),
        ({}, {"recipe": 3}, "recipe"),
        ({"GLASSBOX_URL": "localhost:8000"}, {}, "must begin with http"),
        ({"GLASSBOX_URL": "http://host:8000?dataset=train"}, {}, "it has options.*GLASSBOX_DATASET"),
        ({"GLASSBOX_DATASET": "train", "GLASSBOX_DATASET_MISS": "skip"}, {}, "GLASSBOX_DATASET_MISS"),
        ({"GLASSBOX_DATASET_MISS": "open_ended"}, {}, "GLASSBOX_DATASET_MISS: .*needs GLASSBOX_DATASET"),
        ({}, {"dataset_miss": "open_ended"}, "dataset_miss: .*needs GLASSBOX_DATASET"),
        ({"GLASSBOX_API_KEY": ""}, {}, "GLASSBOX_API_KEY"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(environ: dict[str, str], given: Any, named: str) -> None:
    with pytest.raises(RewardError, match=named):
        AdapterSettings.load(environ, **given)


@pytest.mark.parametrize("environ", [{"GLASSBOX_API_KEY": "hush"}, {"GLASSBOX_URL": "http://key:hush@host"}])
def test_the_key_is_not_shown(environ: dict[str, str]) -> None:
    assert "hush" not in repr(AdapterSettings.load(environ))


def test_urls_are_separated_by_commas_and_a_key_may_contain_some() -> None:
    keyed = AdapterSettings.load({"GLASSBOX_URL": "http://key:a,b@host:1,https://other , "})

    assert keyed.url == ("http://key:a,b@host:1", "https://other")
    with pytest.raises(RewardError) as caught:
        AdapterSettings.load({"GLASSBOX_URL": "http://key:hush,hus/h@host"})
    assert "hus" not in str(caught.value)


# Samples ------------------------------------------------------------------------------------------------------


MESSAGES = [{"role": "user", "content": "a b c", "name": "x"}]


@pytest.mark.parametrize(
    "prompt",
    ["a b c", MESSAGES, np.array(MESSAGES), [SimpleNamespace(role="user", content="a b c")], tuple(MESSAGES)],
)
@pytest.mark.parametrize(
    "response",
    [
        "a b",
        [{"role": "assistant", "content": "a b"}],
        [{"role": "assistant", "content": "a b", "tool_calls": []}, {"role": "tool", "content": "c c c"}],
        {"role": "assistant", "content": [{"type": "text", "text": "a b"}]},
    ],
)
def test_prompts_and_responses_have_the_same_reward_in_every_form(
    scorer: MakeScorer, prompt: Any, response: Any
) -> None:
    (expected, found) = scorer().score([Sample("a b c", "a b"), Sample(prompt, response)])

    assert found.reward == expected.reward is not None


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (None, None),
        (float("nan"), None),
        (np.float64("nan"), None),
        ("", None),
        (42, "42"),
        (np.int64(42), "42"),
        (np.array(["a", "b"]), ["a", "b"]),
        ('{"reference": "a", "query_type": "closed_ended"}', "a"),
        ('{"a": 1}', '{"a": 1}'),
        ({"reference": "a"}, "a"),
    ],
)
def test_references_are_read_in_the_forms_of_data_sets(reference: Any, expected: Any) -> None:
    assert Sample("p", "r", reference).item().reference == expected


@pytest.mark.parametrize(
    ("sample", "field"),
    [
        (Sample(None, "r"), "prompt"),
        (Sample("p", None), "response"),
        (Sample("p", 3), "response"),
        (Sample([{"content": "x"}], "r"), "role"),
        (Sample("p", "r", "x", "closed"), "query_type"),
        (Sample("p", "r\ud800"), "response"),
        (Sample("p", []), "response"),
        (Sample("p", [{"role": "user", "content": "r"}, {"role": "tool", "content": "r"}]), "roles: user, tool"),
        (Sample([{"role": "user", "content": [{"type": "image"}]}], "r"), "image"),
    ],
)
def test_a_sample_that_is_no_item_has_an_error_that_names_the_field(
    sample: Sample, field: str, scorer: MakeScorer
) -> None:
    good, bad = scorer().score([Sample("p", "a b"), sample])

    assert good.reward is not None
    assert bad.reward is None
    assert field in str(bad.error)


def test_one_value_of_a_column_stands_for_all_rows_and_another_length_is_an_error() -> None:
    assert column(None, 2, "reference") == [None, None]
    assert column(np.array(["a", "b"]), 2, "reference") == ["a", "b"]
    with pytest.raises(ValueError, match=r"'reference' has 1 values, the batch has 2 rows"):
        column(["a"], 2, "reference")


# Scores -------------------------------------------------------------------------------------------------------


def test_items_that_the_service_cannot_take_are_left_out_and_the_others_keep_their_place(
    scorer: MakeScorer,
) -> None:
    samples = [
        Sample("p", "a b"),
        Sample("p", "x" * 1001),
        Sample("p", "a", None, "closed_ended"),
        Sample("p", "c d e"),
    ]

    scored = scorer().score(samples)

    assert [one.reward is None for one in scored] == [False, True, True, False]
    assert "response" in str(scored[1].error)
    assert "reference" in str(scored[2].error)
    with pytest.raises(RewardError, match=r"2 of 4 samples cannot be scored: sample 1: .*sample 2: "):
        rewards(scored)


def test_a_reference_without_query_type_is_decided_by_the_declared_default(scorer: MakeScorer) -> None:
    sample = Sample("a b c", "a b", "a b")

    assert scorer().score([sample])[0].features["reference_relevance"] is not None
    assert scorer(query_type_default="open_ended").score([sample])[0].features["query_relevance"] is not None
    assert "query_type" in str(scorer(query_type_default="error").score([sample])[0].error)


@pytest.fixture
def dataset(url: str) -> str:
    """Name of a data set of the service, with the reference of one prompt."""
    row = DatasetRow(prompt="Kept?", reference="a b", query_type=QueryType.CLOSED_ENDED)
    with RewardClient(url) as client:
        return put_dataset(client, "kept", [(1, row)]).name


def test_samples_without_a_reference_find_theirs_in_the_data_set_that_is_named(
    scorer: MakeScorer, dataset: str
) -> None:
    kept, new = Sample("Kept?", "a b c"), Sample("New?", "a b c")
    (given,) = scorer().score([Sample("Kept?", "a b c", "a b", "closed_ended")])
    (opened,) = scorer().score([new])

    found, missed = scorer(dataset=dataset).score([kept, new])
    same, unreferenced = asyncio.run(
        scorer(dataset=dataset, dataset_miss="open_ended").score_async([kept, new]),
    )

    assert found.reward == same.reward == given.reward
    assert missed.reward is None
    assert f"is not in the data set {dataset!r}" in str(missed.error)
    assert (unreferenced.reward, unreferenced.flags) == (opened.reward, ("dataset_miss",))


@pytest.mark.parametrize("recipe", ["rer", "gold"])
def test_samples_that_find_more_references_than_fit_one_request_all_have_a_reward(recipe: str) -> None:
    rows = [(i, DatasetRow(prompt=f"Why {i}?", reference=["a b", "c d", "e f"])) for i in range(6)]
    with serving(Settings(max_request_references=7)) as url, RewardClient(url) as client:
        put_dataset(client, "many", rows, query_type_default=QueryType.CLOSED_ENDED)
        given = AdapterSettings.load({}, url=url, dataset="many", recipe=recipe)
        with closing(Scorer(given)) as scorer:
            scored = scorer.score([Sample(f"Why {i}?", "a b c") for i in range(6)])

    assert [one.error for one in scored] == [None] * 6
    assert all("dataset_hit" in one.flags for one in scored)


def test_a_data_set_that_the_service_does_not_have_raises(scorer: MakeScorer, dataset: str) -> None:
    with pytest.raises(RewardRejectedError, match=rf"none-such.*{dataset}"):
        scorer(dataset="none-such").score([Sample("Kept?", "a")])


def test_features_are_a_constant_set_or_those_that_apply(scorer: MakeScorer) -> None:
    open_ended, closed = scorer(gold=True).score([Sample("a", "a b"), Sample("a", "a b", "a")])

    assert set(open_ended.all_features()) == set(closed.all_features())
    assert "reference_relevance" not in open_ended.applicable_features()
    assert open_ended.all_features()["reference_relevance"] == 0.0
    assert open_ended.applicable_features()["gold_reward"] == open_ended.gold_reward is not None


def test_the_scores_are_the_same_in_any_event_loop_and_in_another_process(scorer: MakeScorer) -> None:
    samples = [Sample("a b c", "a b"), Sample("p", None)]
    shared = scorer()
    expected = shared.score(samples)

    assert asyncio.run(shared.score_async(samples)) == expected
    assert asyncio.run(shared.score_async(samples)) == expected
    with closing(pickle.loads(pickle.dumps(shared))) as copy:  # noqa: S301
        assert copy.score(samples) == expected


def test_connections_of_event_loops_that_are_closed_are_closed(scorer: MakeScorer) -> None:
    shared = scorer()

    def open_files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    asyncio.run(shared.score_async([Sample("p", "a b")]))
    first = open_files()
    for _ in range(6):
        asyncio.run(shared.score_async([Sample("p", "a b")]))

    until(lambda: open_files() <= first + 2)  # the service, in this process, closes its ends a little later


def test_the_deadline_is_that_of_all_requests_of_a_call() -> None:
    """A service that rejects one item after another must not get the whole time again for each."""
    seen: list[float] = []

    def reject_first(_: Served, handler: BaseHTTPRequestHandler, __: int) -> None:
        seen.append(float(handler.headers["glassbox-deadline-s"]))
        time.sleep(0.05)  # what the service takes to answer
        error = {"item": 0, "field": "items.0.response", "message": "x"}
        problem = {"title": "x", "status": 422, "detail": "x", "errors": [error]}
        body = json.dumps(problem).encode()
        handler.wfile.write(b"HTTP/1.1 422 X\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    with scripted(reject_first) as server, closing(Scorer(url=server.url, deadline_s=60)) as scorer:
        scored = scorer.score([Sample("p", "a"), Sample("p", "b"), Sample("p", "c")])

    assert [one.reward for one in scored] == [None, None, None]
    assert len(seen) == 3
    assert seen[2] < seen[0] - 0.09


def test_a_wrong_recipe_and_an_absent_service_raise(scorer: MakeScorer) -> None:
    with pytest.raises(RewardRejectedError, match="rerr"):
        scorer(recipe="rerr").score([Sample("p", "r")])
    with pytest.raises(RewardUnavailableError):
        scorer(url="http://127.0.0.1:9", deadline_s=0.2).score([Sample("p", "r")])
    assert scorer().score([]) == []


def test_rewards_of_scored_samples_are_returned_in_order() -> None:
    assert rewards([Scored(1.0), Scored(-2.0)]) == [1.0, -2.0]
