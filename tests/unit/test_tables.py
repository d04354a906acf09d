"""`score_frame` and `score_dataset`: columns in, columns out, with a service in the same process."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import datasets
import httpx
import numpy as np
import pandas
import pytest

from reward_client import RetryPolicy, RewardClient, RewardError, RewardRejectedError
from reward_client.score_file import Progress
from reward_client.tables import score_dataset, score_frame
from tests.api.conftest import encoder, gold, service  # noqa: F401 (fixtures)
from tests.doubles import LetterEncoder
from tests.unit.test_command_line import client  # noqa: F401 (fixture)

ROWS = [
    {"prompt": "a b", "response": "b a", "note": 1},
    {"prompt": "a b", "response": "b " * 20, "note": 2},
    {"prompt": "a b", "response": "", "note": 3},
]
CLOSED = {"reference": "b", "query_type": "closed_ended"}
TOO_LONG = "b " * 60_000


def frame(rows: list[dict[str, Any]], **index: Any) -> pandas.DataFrame:
    return pandas.DataFrame(rows, **index)


def rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of a table of either library, with None for missing values."""
    rows = table.to_dict("records") if isinstance(table, pandas.DataFrame) else table.to_list()
    return [{name: None if _is_nan(value) else value for name, value in row.items()} for row in rows]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


Score = Callable[..., Any]


def by_frame(client: RewardClient, rows: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:  # noqa: F811
    return rows_of(score_frame(client, frame(rows), progress=None, **options))


def by_dataset(client: RewardClient, rows: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:  # noqa: F811
    names = list(dict.fromkeys(name for row in rows for name in row))
    uniform = [{name: row.get(name) for name in names} for row in rows]
    return rows_of(score_dataset(client, datasets.Dataset.from_list(uniform), progress=None, **options))


BOTH = pytest.mark.parametrize("score", [by_frame, by_dataset])


@BOTH
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_every_row_keeps_its_columns_and_gets_those_of_its_score(
    score: Score,
    batch: int,
    client: RewardClient,  # noqa: F811
) -> None:
    scored = score(client, ROWS, batch=batch, gold=True, explain=True)

    reply = client.score(
        [{name: row[name] for name in ("prompt", "response")} for row in ROWS], gold=True, explain=True
    )
    for row, given, result in zip(scored, ROWS, reply.results, strict=True):
        assert {name: row[name] for name in given} == given
        assert (row["reward"], row["gold_reward"]) == (result.reward, result.gold_reward)
        assert (row["query_type"], row["error"]) == ("open_ended", None)
        assert row["flags"] == " ".join(result.flags)
        assert {name.removeprefix("feature."): row[name] for name in row if name.startswith("feature.")} == dict(
            result.features
        )
        assert result.attribution is not None
        parts = {name.removeprefix("part."): row[name] for name in row if name.startswith("part.")}
        assert {name: part for name, part in parts.items() if part is not None} == result.attribution.parts


@BOTH
def test_columns_may_have_other_names(score: Score, client: RewardClient) -> None:  # noqa: F811
    rows = [{"question": "a b", "completion": "b", "answer": "b", "type": "closed_ended", "reference": "other"}]
    names = {"prompt": "question", "response": "completion", "reference": "answer", "query_type": "type"}

    (row,) = score(client, rows, **{f"{field}_column": name for field, name in names.items()})

    assert row["reward"] == client.score([{"prompt": "a b", "response": "b", **CLOSED}]).rewards[0]
    assert row["reference"] == "other"


@BOTH
@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ([{"prompt": "a"}], {}, "no column 'response', its columns are prompt; set response_column"),
        (ROWS, {"reference_column": "refrence"}, "no column 'refrence', its columns are .*; set reference_column"),
        ([{**ROWS[0], "reward": 1.0}], {}, "has a column 'reward', which would be replaced"),
        ([{**ROWS[0], "error": "x"}], {}, "has a column 'error', which would be replaced"),
        ([{**ROWS[0], "feature.x": "x"}], {}, r"has a column 'feature\.x', which would be replaced"),
        (
            [{**ROWS[0], "kind": "open_ended", "query_type": "a search"}],
            {"query_type_column": "kind"},
            "has a column 'query_type', which would be replaced",
        ),
        (ROWS, {"batch": 0}, "batch must be at least 1"),
    ],
)
def test_a_column_that_does_not_fit_is_an_error_that_names_it(
    score: Score,
    rows: list[dict[str, Any]],
    names: dict[str, Any],
    message: str,
    client: RewardClient,  # noqa: F811
) -> None:
    with pytest.raises(ValueError, match=message):
        score(client, rows, **names)


def test_a_repeated_column_is_an_error(client: RewardClient) -> None:  # noqa: F811
    table = pandas.DataFrame([["a", "b", "c"]], columns=["prompt", "response", "response"])

    with pytest.raises(ValueError, match="2 columns 'response'"):
        score_frame(client, table)


WRONG = [
    ROWS[0],
    {**ROWS[0], "response": None},
    {**ROWS[0], "prompt": None},
    {**ROWS[0], "reference": "b"},  # without a query type
    {**ROWS[0], "response": TOO_LONG, "query_type": "open_ended"},
    ROWS[1],
]
"""Rows 1 and 2 are no items, rows 3 and 4 are refused by the service."""


@BOTH
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_rows_that_cannot_be_scored_have_an_error_and_no_number(
    score: Score,
    batch: int,
    client: RewardClient,  # noqa: F811
) -> None:
    scored = score(client, WRONG, batch=batch, keep_going=True, gold=True, explain=True)

    assert [row["error"] is None for row in scored] == [True, False, False, False, False, True]
    assert [str(row["error"]).partition(":")[0] for row in scored[1:5]] == [
        "response", "prompt", "query_type", "response",
    ]  # fmt: skip
    assert scored[4]["query_type"] == "open_ended"
    for row in scored[1:5]:
        assert [name for name, value in row.items() if isinstance(value, float)] == []
    assert [row["reward"] for row in scored[::5]] == client.score(
        [{"prompt": row["prompt"], "response": row["response"]} for row in ROWS[:2]]
    ).rewards


@BOTH
def test_without_keep_going_all_wrong_rows_are_named_before_anything_is_sent(
    score: Score,
    client: RewardClient,  # noqa: F811
    encoder: LetterEncoder,  # noqa: F811
) -> None:
    with pytest.raises(ValueError, match=r"row 1: response: .*\nrow 2: prompt: "):
        score(client, WRONG, batch=1)
    assert encoder.calls == []


@BOTH
def test_a_row_that_the_service_refuses_is_named_by_its_place_in_the_table(
    score: Score,
    client: RewardClient,  # noqa: F811
) -> None:
    with pytest.raises(RewardRejectedError) as caught:
        score(client, [*ROWS, *ROWS, {**ROWS[0], "response": TOO_LONG}], batch=2)

    assert [error.item for error in caught.value.errors] == [6]
    assert "items.6.response" in str(caught.value)


@BOTH
def test_a_table_of_wrong_rows_only_has_the_same_columns(
    score: Score,
    client: RewardClient,  # noqa: F811
) -> None:
    (row,) = score(client, [{"prompt": "a", "response": TOO_LONG}], keep_going=True)

    assert (row["reward"], row["flags"], row["query_type"]) == (None, None, None)
    assert "response" in row["error"]


def test_an_empty_table_has_the_columns_and_no_request_is_sent() -> None:
    unreachable = RewardClient("http://127.0.0.1:9", retry=RetryPolicy(budget_s=0.0))

    scored = score_frame(unreachable, frame([], columns=["prompt", "response"]), progress=None)

    assert list(scored.columns) == ["prompt", "response", "reward", "query_type", "flags", "error"]


@BOTH
def test_a_service_that_is_down_is_an_error_with_keep_going_too(score: Score) -> None:
    with (
        RewardClient("http://127.0.0.1:9", retry=RetryPolicy(budget_s=0.0)) as unreachable,
        pytest.raises(RewardError, match=r"http://127\.0\.0\.1:9"),
    ):
        score(unreachable, ROWS, keep_going=True)


def test_a_change_of_the_recipe_between_two_batches_is_an_error(client: RewardClient) -> None:  # noqa: F811
    reply = client.score([{"prompt": "a", "response": "b"}])
    changed = reply.model_copy(update={"recipe": reply.recipe.model_copy(update={"hash": "other"})})
    answers = iter([reply, changed])
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=next(answers).model_dump_json()))

    with (
        RewardClient("http://test", transport=transport) as other,
        pytest.raises(RewardError, match="changed recipe"),
    ):
        score_frame(other, frame(ROWS[:2]), batch=1, progress=None)


class Failing:
    """A transport of a service that fails from the n-th request on."""

    def __init__(self, client: RewardClient, n: int, failure: Callable[[], httpx.Response]) -> None:  # noqa: F811
        self._client, self._left, self._failure = client, n, failure

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self._left == 0:
            return self._failure()
        self._left -= 1
        return httpx.Response(200, content=self._client.request(request.method, request.url.path, request.content))


def refused() -> httpx.Response:
    raise httpx.ConnectError("refused")


def ctrl_c() -> httpx.Response:
    raise KeyboardInterrupt


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize(("failure", "error"), [(refused, RewardError), (ctrl_c, KeyboardInterrupt)])
@pytest.mark.parametrize("table", [pandas.DataFrame, datasets.Dataset.from_list])
def test_what_was_received_before_a_failure_is_kept(
    table: Callable[[list[dict[str, Any]]], Any],
    failure: Callable[[], httpx.Response],
    error: type[BaseException],
    keep_going: bool,
    client: RewardClient,  # noqa: F811
) -> None:
    score = score_frame if table is pandas.DataFrame else score_dataset
    transport = httpx.MockTransport(Failing(client, 2, failure))
    never = RetryPolicy(budget_s=0.0)
    with RewardClient("http://t", transport=transport, retry=never) as failing, pytest.raises(error) as ended:
        score(failing, table(ROWS), batch=1, keep_going=keep_going, progress=None)

    kept = rows_of(ended.value.scored)  # type: ignore[attr-defined]
    complete = rows_of(score(client, table(ROWS), progress=None))
    assert kept[:2] == complete[:2]
    assert (kept[2]["reward"], kept[2]["note"]) == (None, 3)
    assert kept[2]["error"].startswith("not scored: ")
    assert "2 of 3 rows have their rewards" in ended.value.__notes__[0]


@pytest.mark.parametrize("keep_going", [False, True])
def test_the_parts_of_a_large_batch_that_were_received_are_kept(keep_going: bool, client: RewardClient) -> None:  # noqa: F811
    rows = [{"prompt": "a", "response": f"b {n}" if n != 3 else TOO_LONG} for n in range(600)]
    rows = rows if keep_going else [row for row in rows if row["response"] != TOO_LONG]
    info = client.info()
    n_parts = [0]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/info":
            limits = info.limits.model_copy(update={"max_items": 100})
            return httpx.Response(200, text=info.model_copy(update={"limits": limits}).model_dump_json())
        n_parts[0] += 1
        if n_parts[0] > 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=client.request("POST", request.url.path, request.content))

    transport, never = httpx.MockTransport(answer), RetryPolicy(budget_s=0.0)
    with (
        RewardClient("http://t", transport=transport, retry=never) as failing,
        pytest.raises(RewardError) as ended,
    ):
        score_frame(failing, frame(rows), batch=600, keep_going=keep_going, progress=None)

    kept = ended.value.scored
    n_scored = 200 if keep_going else 300  # the refused row costs one request of three
    first = kept.iloc[: n_scored + keep_going]
    assert kept["reward"].notna().sum() == first["reward"].notna().sum() == n_scored
    assert kept["error"].iloc[-1].startswith("not scored: ")
    assert list(first["error"].dropna().index) == ([3] if keep_going else [])


def test_a_failure_before_the_first_reward_has_no_table() -> None:
    with (
        RewardClient("http://127.0.0.1:9", retry=RetryPolicy(budget_s=0.0)) as unreachable,
        pytest.raises(RewardError) as ended,
    ):
        score_frame(unreachable, frame(ROWS), progress=None)

    assert ended.value.scored is None


# What cells may be ----------------------------------------------------------------------------------------------


MESSAGES = [{"role": "user", "content": "a b"}]


@pytest.mark.parametrize(
    ("cells", "item"),
    [
        ({"prompt": MESSAGES}, {"prompt": MESSAGES}),
        ({"prompt": np.array(MESSAGES, dtype=object)}, {"prompt": MESSAGES}),  # as pandas reads them from Parquet
        ({"response": [{"role": "assistant", "content": "b a"}]}, {"response": "b a"}),
        ({"reference": np.nan, "query_type": np.nan}, {}),
        ({"reference": pandas.NA, "query_type": None}, {}),
        ({"reference": "", "query_type": ""}, {}),
        ({"reference": np.int64(4), "query_type": "CONSTRAINED"}, {"reference": 4, "query_type": "closed_ended"}),
        ({"reference": np.array(["b", "c"])}, {"reference": ["b", "c"]}),
    ],
)
def test_cells_are_read_as_the_values_that_they_stand_for(
    cells: dict[str, Any],
    item: dict[str, Any],
    client: RewardClient,  # noqa: F811
) -> None:
    base = {"prompt": "a b", "response": "b a"}
    options: dict[str, Any] = {"query_type_default": "closed_ended"}

    scored = score_frame(client, frame([base | cells]), progress=None, **options)

    assert list(scored["reward"]) == client.score([base | item], **options).rewards


@BOTH
@pytest.mark.parametrize("reference", ['{"id": 7}', '{"reference": "b"}', '{"query_type": "open_ended"}'])
def test_a_reference_that_is_json_is_the_reference_and_no_label(
    score: Score,
    reference: str,
    client: RewardClient,  # noqa: F811
) -> None:
    item = {"prompt": "a b", "response": reference, "reference": reference, "query_type": "closed_ended"}

    (row,) = score(client, [item])

    assert row["query_type"] == "closed_ended"
    assert row["reward"] == client.score([item]).rewards[0]


def test_a_reference_that_is_an_object_is_an_error_of_its_field(client: RewardClient) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="row 0: reference: "):
        score_frame(client, frame([ROWS[0] | {"reference": {"reference": "b"}}]), progress=None)


def from_pandas(client: RewardClient, table: pandas.DataFrame, **options: Any) -> datasets.Dataset:  # noqa: F811
    return score_dataset(client, datasets.Dataset.from_pandas(table), **options)


@pytest.mark.parametrize("score", [score_frame, from_pandas])
@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "Int64"])
def test_integers_of_a_column_with_a_missing_cell_are_sent_as_integers(
    score: Score,
    dtype: str,
    client: RewardClient,  # noqa: F811
) -> None:
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        items = json.loads(request.content)["items"]
        sent.extend(item.get("reference") for item in items)
        reply = client.score([{"prompt": "a", "response": "b"}] * len(items))
        return httpx.Response(200, text=reply.model_dump_json())

    table = frame([ROWS[0], ROWS[0], ROWS[0]])
    table["reference"] = pandas.Series([391, None, 1e15 if dtype == "float32" else 12], dtype=dtype)
    options: dict[str, Any] = {"query_type_default": "closed_ended", "progress": None}

    with RewardClient("http://test", transport=httpx.MockTransport(answer)) as other:
        score(other, table, **options)

    assert sent[:2] == ["391", None]
    assert "." not in sent[2]


def test_a_fraction_and_a_float_beyond_all_digits_stay_as_they_are(client: RewardClient) -> None:  # noqa: F811
    options: dict[str, Any] = {"query_type_default": "closed_ended", "progress": None}
    for number in (2.5, 1e300):
        item = {"prompt": "a", "response": str(number), "reference": number}
        assert (
            list(score_frame(client, frame([item]), **options)["reward"])
            == client.score([item], query_type_default="closed_ended").rewards
        )


@pytest.mark.parametrize("dtype", ["string", "category", "string[pyarrow]", object])
def test_text_columns_of_any_type_are_read(dtype: Any, client: RewardClient) -> None:  # noqa: F811
    table = frame([{"prompt": "a b", "response": "b"}, {"prompt": "a b", "response": None}]).astype(dtype)

    scored = score_frame(client, table, progress=None, keep_going=True)

    assert list(scored["error"].isna()) == [True, False]


def test_a_frame_keeps_its_index_even_with_repeated_labels(client: RewardClient) -> None:  # noqa: F811
    table = frame(ROWS, index=["x", "x", "y"])

    scored = score_frame(client, table, progress=None)

    assert list(scored.index) == ["x", "x", "y"]
    assert list(scored["reward"]) == list(score_frame(client, frame(ROWS), progress=None)["reward"])
    assert "reward" not in table.columns


def test_a_dataset_that_was_shuffled_and_formatted_keeps_its_rows(client: RewardClient) -> None:  # noqa: F811
    dataset = datasets.Dataset.from_list(ROWS).shuffle(seed=1).with_format("numpy")

    scored = score_dataset(client, dataset, progress=None).with_format(None)

    assert list(scored["note"]) == list(dataset.with_format(None)["note"])
    by_note = dict(zip(scored["note"], scored["reward"], strict=True))
    plain = score_dataset(client, datasets.Dataset.from_list(ROWS), progress=None)
    assert by_note == dict(zip(plain["note"], plain["reward"], strict=True))


@pytest.mark.parametrize(
    ("score", "table", "message"),
    [
        (score_dataset, datasets.DatasetDict(), r"choose a split, as in dataset\['train'\]"),
        (score_dataset, ROWS, "takes a Dataset, not a value of type list"),
        (score_frame, ROWS, "takes a pandas DataFrame, not a value of type list"),
    ],
)
def test_another_table_is_a_type_error(score: Score, table: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        score(RewardClient("http://127.0.0.1:9"), table)


# Progress, imports ----------------------------------------------------------------------------------------------


def test_progress_is_reported_after_each_batch_with_the_notices(client: RewardClient) -> None:  # noqa: F811
    seen: list[Progress] = []

    score_frame(client, frame(ROWS), batch=2, gold=True, progress=seen.append)

    assert [(progress.done, progress.total) for progress in seen] == [(2, 3), (3, 3)]
    assert seen[-1].notices == ("a stand-in of the tests",)


def test_the_default_progress_is_a_line_and_the_notices(
    client: RewardClient,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    score_frame(client, frame(ROWS), batch=2, gold=True)

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\r") == 2
    assert "3/3 items" in printed.err
    assert printed.err.endswith("note: a stand-in of the tests\n")


def test_the_module_imports_neither_library() -> None:
    code = (
        "import sys, reward_client.tables; print([m for m in ('pandas', 'datasets', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
