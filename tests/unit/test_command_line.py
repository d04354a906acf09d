"""`glassbox score` and `glassbox calibrate`, with a service in the same process."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import httpx
import pytest
import yaml
from fastapi.testclient import TestClient
from pyarrow import parquet

from reward_client import RetryPolicy, RewardClient, RewardError
from reward_client.cli.calibrate import Similarities, calibrate
from reward_client.cli.main import main
from reward_client.rows import FileError
from reward_client.score_file import score_file
from reward_client.score_output import write_table
from reward_client.score_summary import Summary
from reward_client.wire import QueryType
from reward_client.writing import OutputError
from reward_service.settings import Settings
from tests.api.conftest import encoder, gold, service  # noqa: F401 (fixtures)
from tests.live import serving


@pytest.fixture
def client(service: TestClient) -> Iterator[RewardClient]:  # noqa: F811
    """A client of the service in the same process."""

    def forward(request: httpx.Request) -> httpx.Response:
        response = service.request(request.method, request.url.path, content=request.content)
        return httpx.Response(response.status_code, content=response.content)

    with RewardClient("http://in-process", transport=httpx.MockTransport(forward)) as c:
        yield c


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


ROWS: list[dict[str, object]] = [{"prompt": "a b", "response": "b " * n, "note": n} for n in range(1, 11)]


def test_every_line_keeps_its_fields_and_gets_its_result(client: RewardClient, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"

    progress = list(score_file(client, source, target, batch=3, gold=True))

    scored = read(target)
    assert [row["note"] for row in scored] == list(range(1, 11))
    assert [row["result"]["features"]["length_incentive"] for row in scored][:2] == [0.01, 0.02]
    assert scored[0]["result"]["gold_reward"] is not None
    assert (progress[-1].done, progress[-1].total) == (10, 10)


def test_a_stopped_run_continues_after_its_last_complete_line(client: RewardClient, tmp_path: Path) -> None:
    source, whole = write(tmp_path / "in.jsonl", ROWS), tmp_path / "whole.jsonl"
    list(score_file(client, source, whole, batch=4))
    partial = tmp_path / "partial.jsonl"
    partial.write_bytes(b"".join(whole.read_bytes().splitlines(keepends=True)[:5]) + b'{"prompt": "a')

    progress = list(score_file(client, source, partial, batch=4))

    assert read(partial) == read(whole)
    assert [p.done for p in progress] == [5, 9, 10]


def test_lines_scored_before_a_failure_are_kept(client: RewardClient, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [*ROWS[:4], {"prompt": "a", "response": "BOOM"}])
    target = tmp_path / "out.jsonl"

    with pytest.raises(RewardError, match="encoder exploded"):
        list(score_file(client, source, target, batch=2))

    assert [row["note"] for row in read(target)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ("nonsense\n", "line 1: not valid JSON"),
        ("[1]\n", "line 1: an object is required"),
        ('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n', "line 2: response: Field required"),
    ],
)
def test_an_invalid_line_is_reported_before_anything_is_scored(
    client: RewardClient, tmp_path: Path, content: str, message: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(content)

    with pytest.raises(FileError, match=message):
        list(score_file(client, source, tmp_path / "out.jsonl"))
    assert not (tmp_path / "out.jsonl").exists()


def test_ids_references_and_prompts_may_be_as_data_sets_write_them(client: RewardClient, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "a b", "response": "a", "id": 0},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "a b"}]}], "response": "a", "id": 1},
        {"prompt": "a b", "response": "a", "reference": 5, "query_type": "closed_ended"},
        {"prompt": "a b", "response": "a", "reference": ["b", "a"], "query_type": "closed_ended"},
    ]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    source.write_text("\ufeff" + source.read_text().replace("\n", "\n\n"))

    list(score_file(client, source, target, batch=2))

    scored = read(target)
    assert [row.get("id") for row in scored] == [0, 1, None, None]
    assert [row["result"]["id"] for row in scored] == ["0", "1", None, None]
    assert scored[3]["result"]["flags"] == ["best_reference_1"]
    assert [{name: row[name] for name in given} for row, given in zip(scored, rows, strict=True)] == rows


@pytest.mark.parametrize("name", ["result", "scored_by"])
def test_a_field_that_would_be_replaced_is_refused(client: RewardClient, tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "in.jsonl", [*ROWS, ROWS[0] | {name: "of an earlier judge"}])

    with pytest.raises(FileError, match=f"line 11: {name}: this command writes a field of that name"):
        list(score_file(client, source, tmp_path / "out.jsonl"))
    assert not (tmp_path / "out.jsonl").exists()


def test_the_services_errors_name_lines_of_the_file(client: RewardClient, tmp_path: Path) -> None:
    bad = {"prompt": "a", "response": "b", "reference": "c"}  # without a query type
    source = write(tmp_path / "in.jsonl", [*ROWS[:3], bad, ROWS[0], bad])
    source.write_text("\n" + source.read_text())

    with pytest.raises(FileError) as refused:
        list(score_file(client, source, tmp_path / "out.jsonl", batch=3))

    lines = str(refused.value).splitlines()
    assert [line.partition(" is needed")[0] for line in lines] == [
        f"{source}, line {number}: query_type:" for number in (5, 7)
    ]


def test_a_model_that_fails_on_a_row_is_an_error_with_its_line(client: RewardClient, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [*ROWS[:2], {"prompt": "a", "response": "BOOM"}])

    with pytest.raises(RewardError, match="line 3, response: "):
        list(score_file(client, source, tmp_path / "out.jsonl", batch=2))


# Rows that cannot be scored --------------------------------------------------------------------------------------


DIRTY = [
    *(json.dumps(row) for row in ROWS[:3]),
    "not JSON",
    '{"prompt": "a"}',
    "",
    '{"prompt": "a", "response": "b", "reference": "c"}',  # no query type
    json.dumps({"prompt": "a", "response": "b " * 60_000}),  # longer than the service accepts
    "[1]",
    *(json.dumps(row) for row in ROWS[3:]),
]
WRONG_LINES = [4, 5, 7, 8, 9]


def line_numbers(messages: Sequence[str]) -> list[int]:
    return sorted(int(message.partition("line ")[2].partition(":")[0]) for message in messages)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_rows_that_cannot_be_scored_are_left_out_and_named_by_their_lines(
    client: RewardClient, tmp_path: Path, batch: int
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(DIRTY))

    progress = list(score_file(client, source, target, batch=batch, keep_going=True))

    assert [row["note"] for row in read(target)] == list(range(1, 11))
    assert line_numbers([message for step in progress for message in step.wrong]) == WRONG_LINES


def test_a_stopped_run_with_rows_left_out_continues(client: RewardClient, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(DIRTY))
    list(score_file(client, source, target, keep_going=True))
    whole = target.read_bytes()
    target.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))

    progress = list(score_file(client, source, target, keep_going=True))

    assert target.read_bytes() == whole
    assert sum(len(step.lines) for step in progress) == 10


def test_a_finished_run_with_rows_left_out_names_them_again(client: RewardClient, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(DIRTY))
    list(score_file(client, source, target, keep_going=True))

    again = [message for step in score_file(client, source, target, keep_going=True) for message in step.wrong]

    assert line_numbers(again) == WRONG_LINES
    assert sum("an earlier run left it out" in message for message in again) == 2


def test_a_stopped_run_continues_after_its_own_rows_and_not_after_similar_ones(
    client: RewardClient, tmp_path: Path
) -> None:
    rows = [{"prompt": "a", "response": "b " * 60_000}, {"prompt": "a", "response": "b"}]
    rows += [{"prompt": "a", "response": "b", "note": "x"}]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    list(score_file(client, source, target, keep_going=True))
    whole = target.read_bytes()
    target.write_bytes(whole.splitlines(keepends=True)[1])  # as if the second row had been left out

    list(score_file(client, source, target, keep_going=True))

    assert [row.get("note") for row in read(target)] == ["x"]


def test_only_the_first_rows_are_read_with_a_limit(client: RewardClient, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(DIRTY))

    list(score_file(client, source, target, limit=3))

    assert [row["note"] for row in read(target)] == [1, 2, 3]


def test_the_summary_has_means_and_names_the_rows_without_a_reward(client: RewardClient, tmp_path: Path) -> None:
    source, summary = tmp_path / "in.jsonl", Summary()
    source.write_text("\n".join(DIRTY))

    for progress in score_file(client, source, tmp_path / "out.jsonl", keep_going=True, gold=True, recipe="rer"):
        summary.add(progress)

    lines = str(summary).splitlines()
    assert lines[0] == "10 rows scored, 5 rows without a reward"
    scored = [row["result"] for row in read(tmp_path / "out.jsonl")]
    mean = sum(result["reward"] for result in scored) / 10
    assert f"  open_ended: mean reward {mean:.4f} (10)" in lines
    assert any(line.startswith("  mean gold reward ") for line in lines)
    assert any("repetition_penalty" in line for line in lines)
    assert any(re.fullmatch(r"  slowest request: lines 1 to 16, \d+\.\d s", line) for line in lines)
    assert line_numbers(lines[-5:]) == WRONG_LINES


# Tables and streams ---------------------------------------------------------------------------------------------


def test_a_table_has_the_columns_of_the_input_and_of_the_result(client: RewardClient, tmp_path: Path) -> None:
    source, lines, table = tmp_path / "in.csv", tmp_path / "lines.jsonl", tmp_path / "out.csv"
    source.write_text('prompt,response,reference,query_type\n"a\nb","a, ""b""",,\na,b,7,closed_ended\n')

    list(score_file(client, source, lines, recipe="rer"))
    expected = read(lines)
    write_table(lines, table)

    with table.open(newline="") as rows:
        found = list(csv.DictReader(rows))
    assert [row["prompt"] for row in found] == ["a\nb", "a"]
    assert [float(row["reward"]) for row in found] == [row["result"]["reward"] for row in expected]
    assert [row["query_type"] for row in found] == ["open_ended", "closed_ended"]
    assert found[0]["feature.reference_relevance"] == ""
    assert not lines.exists()


def test_the_command_reads_and_writes_streams_and_ends_with_1_if_a_row_has_no_reward(tmp_path: Path) -> None:
    with serving(Settings(default_recipe="rer")) as url:
        command = [sys.executable, "-m", "reward_client.cli", "score", "-", "-", "--url", url]
        options = [
            "--keep-going",
            "--limit",
            "5",
            "--recipe-override",
            'feature_ranges={"length_incentive": [0, 0.02]}',
        ]
        text = "\n".join(DIRTY).encode()
        done = subprocess.run([*command, *options], input=text, capture_output=True, check=False)
        recipes = {recipe["hash"] for recipe in httpx.get(f"{url}/info").json()["recipes"]}

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["note"] for row in rows] == [1, 2, 3]
    assert {row["scored_by"]["recipe"]["hash"] for row in rows}.isdisjoint(recipes)
    assert done.returncode == 1
    assert b"3 rows scored, 2 rows without a reward" in done.stderr
    assert b"-, line 4: not valid JSON" in done.stderr


def test_parquet_files_are_read_and_written(client: RewardClient, tmp_path: Path) -> None:
    lines, table = tmp_path / "lines.jsonl", tmp_path / "out.parquet"
    mixed = [row | {"mixed": value} for row, value in zip(ROWS, [1, "a", None, 2.5, [1]] * 2, strict=True)]
    list(score_file(client, write(tmp_path / "in.jsonl", mixed), lines))
    write_table(lines, table)

    again = tmp_path / "again.jsonl"
    list(score_file(client, table, again))

    assert [row["note"] for row in read(again)] == list(range(1, 11))
    assert [row["result"]["reward"] for row in read(again)] == [row["reward"] for row in read(again)]
    assert [row["mixed"] for row in read(again)][:5] == ["1", "a", None, "2.5", "[1]"]


@pytest.mark.parametrize(
    "value", [{}, [], [1, "a"], [{"a": 1}, {"a": [1]}], {"a": {}}, 2**70], ids=lambda value: json.dumps(value)
)
def test_a_value_that_parquet_does_not_have_is_written_as_json(
    client: RewardClient, tmp_path: Path, value: Any
) -> None:
    lines, table = tmp_path / "lines.jsonl", tmp_path / "out.parquet"
    list(score_file(client, write(tmp_path / "in.jsonl", [ROWS[0] | {"extra": value}, ROWS[1]]), lines))
    write_table(lines, table)

    found = parquet.read_table(table).to_pylist()

    extra = found[0]["extra"]
    assert (json.loads(extra) if isinstance(extra, str) else extra) == value
    assert found[1]["extra"] is None


def test_a_table_that_cannot_be_written_leaves_the_one_before_it(client: RewardClient, tmp_path: Path) -> None:
    lines, table = tmp_path / "lines.jsonl", tmp_path / "out.csv"
    list(score_file(client, write(tmp_path / "in.jsonl", ROWS), lines))
    table.write_text("before")
    (tmp_path / "out.csv.unfinished").mkdir()

    with pytest.raises(OutputError, match="the scored rows are in"):
        write_table(lines, table)

    assert table.read_text() == "before"
    assert lines.exists()


@pytest.mark.parametrize("name", ["reward", "gold_reward", "flags", "feature.length"])
def test_a_table_does_not_replace_columns_of_the_input(client: RewardClient, tmp_path: Path, name: str) -> None:
    source, target = write(tmp_path / "in.jsonl", [ROWS[0] | {name: 1}]), tmp_path / "lines.jsonl"

    with pytest.raises(FileError, match=f"line 1: {name}: this command writes a field of that name"):
        list(score_file(client, source, target, as_table=True))
    assert not target.exists()


def test_an_input_is_not_replaced_by_its_table(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("prompt,response\na,b\n")

    with serving(Settings(default_recipe="rer")) as url, pytest.raises(SystemExit, match="is the input"):
        main(["score", str(source), str(source), "--overwrite", "--url", url], None)

    assert source.read_text() == "prompt,response\na,b\n"


@pytest.mark.parametrize("n_before", [3, 10], ids=["part of the file", "all of it"])
@pytest.mark.parametrize(
    ("other", "named"),
    [({"recipe": "li"}, "recipe li "), ({"gold": True}, "and length-gold (weights ")],
    ids=["recipe", "gold"],
)
def test_a_file_never_mixes_rewards_of_two_recipes_or_models(
    client: RewardClient, tmp_path: Path, other: dict[str, Any], named: str, n_before: int
) -> None:
    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    list(score_file(client, source, target, recipe="rer"))
    target.write_bytes(b"".join(target.read_bytes().splitlines(keepends=True)[:n_before]))
    before = target.read_bytes()

    with pytest.raises(FileError, match="has rewards of recipe rer ") as refused:
        list(score_file(client, source, target, **other))

    assert named in str(refused.value)
    assert target.read_bytes() == before


def test_another_default_query_type_is_detected_with_the_same_recipe_and_models(
    client: RewardClient, tmp_path: Path
) -> None:
    rows = [{"prompt": "a b c", "response": "a b", "reference": "c"} for _ in range(4)]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    list(score_file(client, source, target, query_type_default=QueryType.OPEN_ENDED))
    target.write_bytes(b"".join(target.read_bytes().splitlines(keepends=True)[:2]))

    with pytest.raises(FileError, match=r"as open_ended, and now the reward .* as closed_ended"):
        list(score_file(client, source, target, query_type_default=QueryType.CLOSED_ENDED))


def test_a_change_of_the_recipe_during_the_run_is_detected(service: TestClient, tmp_path: Path) -> None:  # noqa: F811
    """The recipe has the same name and other content, as after a restart of the service."""
    requests = []

    def forward(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        body = json.loads(request.content) | (
            {"recipe_overrides": {"relevance_floor": 0.5}} if len(requests) > 2 else {}
        )
        response = service.request(request.method, request.url.path, json=body)
        return httpx.Response(response.status_code, content=response.content)

    source, target = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    with (
        RewardClient("http://in-process", transport=httpx.MockTransport(forward)) as changing,
        pytest.raises(FileError, match=r"recipe rer .* this run would add rewards of recipe rer "),
    ):
        list(score_file(changing, source, target, batch=3))

    assert [row["note"] for row in read(target)] == [1, 2, 3, 4, 5, 6]


def test_a_file_that_already_mixes_rewards_is_not_continued(client: RewardClient, tmp_path: Path) -> None:
    source, mixed = write(tmp_path / "in.jsonl", ROWS), tmp_path / "mixed.jsonl"
    for recipe, lines in (("li", slice(0, 2)), ("rer", slice(2, 4))):
        whole = tmp_path / f"{recipe}.jsonl"
        list(score_file(client, source, whole, recipe=recipe))
        with mixed.open("ab") as out:
            out.writelines(whole.read_bytes().splitlines(keepends=True)[lines])

    with pytest.raises(FileError, match=r"recipe li .* recipe rer "):
        list(score_file(client, source, mixed, recipe="li"))


def test_a_full_disk_is_one_clear_error(client: RewardClient, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)

    with pytest.raises(OutputError, match=r"/dev/full cannot be extended: No space left on device; free space"):
        list(score_file(client, source, Path("/dev/full")))


def test_an_output_that_cannot_be_created_is_named_in_the_error(client: RewardClient, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)

    with pytest.raises(
        OutputError, match=r"nowhere/out.jsonl cannot be written: No such file .*; create the folder"
    ):
        list(score_file(client, source, tmp_path / "nowhere" / "out.jsonl"))


def test_the_input_is_never_overwritten(client: RewardClient, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)

    with pytest.raises(FileError, match="is the input"):
        list(score_file(client, source, source, overwrite=True))
    assert read(source) == ROWS


@pytest.mark.parametrize("content", ["precious, without a line break", '{"prompt": "other", "result": {}}\n'])
def test_an_output_with_other_content_is_not_changed(client: RewardClient, tmp_path: Path, content: str) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text(content)

    with pytest.raises(FileError, match=r"not a (result of scoring this input|file of scored items)"):
        list(score_file(client, write(tmp_path / "in.jsonl", ROWS), target))
    assert target.read_text() == content


def test_a_service_that_is_down_is_an_error_with_its_url(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    with (
        RewardClient("http://127.0.0.1:9", retry=RetryPolicy(budget_s=0.0)) as unreachable,
        pytest.raises(RewardError, match=r"the request to http://127\.0\.0\.1:9"),
    ):
        list(score_file(unreachable, source, tmp_path / "out.jsonl"))


def test_calibration_writes_a_recipe_that_the_service_can_load(client: RewardClient, tmp_path: Path) -> None:
    from reward_service.features.recipe_registry import RecipeRegistry

    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = [{"prompt": c * 3, "response": f"{c} {c} {letters[(i + 9) % 26]}"} for i, c in enumerate(letters)]
    recipes = tmp_path / "recipes"
    recipes.mkdir()

    summary = calibrate(client, write(tmp_path / "pairs.jsonl", pairs), recipes / "rer-letters.yaml", "cosine")

    recipe = RecipeRegistry.load(recipes).get("rer-letters")
    assert (recipe.calibrated_for, recipe.words, recipe.reasoning) == ("letters", "wordpunct", "flag")
    low, high = recipe.query_relevance_range
    assert low == pytest.approx(0.0)
    assert high == pytest.approx(2 / 5**0.5, abs=1e-4)
    assert "matched wins 100%" in summary
    assert yaml.safe_load((recipes / "rer-letters.yaml").read_text())["similarity"] == "cosine"


def test_calibration_reports_all_wrong_lines_and_reads_any_reference(client: RewardClient, tmp_path: Path) -> None:
    pairs: list[dict[str, object]] = [{"prompt": "a", "response": "a", "reference": n} for n in range(25)]
    pairs[7:9] = [{"prompt": "a"}, {"prompt": ["a"], "response": "b"}]

    with pytest.raises(FileError) as refused:
        calibrate(client, write(tmp_path / "pairs.jsonl", pairs), tmp_path / "out.yaml", "cosine")

    assert [line.split(": ")[0].split(", ")[1] for line in str(refused.value).splitlines()] == ["line 8", "line 9"]


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("there.yaml", "there.yaml exists; choose another file, or --overwrite"),
        ("out.txt", "the file of a recipe ends in .yaml"),
        ("folder.yaml", "folder.yaml exists"),
    ],
)
def test_a_recipe_that_could_not_be_written_is_an_error_before_anything_is_read(
    target: str, cause: str, tmp_path: Path
) -> None:
    (tmp_path / "there.yaml").touch()
    (tmp_path / "folder.yaml").mkdir()

    with pytest.raises(SystemExit) as refused:
        main(
            [
                "calibrate",
                str(tmp_path / "no-such-pairs.jsonl"),
                str(tmp_path / target),
                "--url",
                "http://127.0.0.1:9",
            ]
        )

    assert cause in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_too_few_references_are_counted_in_the_summary(client: RewardClient, tmp_path: Path) -> None:
    pairs: list[dict[str, object]] = [
        {"prompt": c * 3, "response": c * 2, "reference": c if c < "t" else None} for c in ascii_lowercase
    ]
    target = tmp_path / "out.yaml"

    assert "from prompts: 19 references, 20 needed" in calibrate(
        client, write(tmp_path / "pairs.jsonl", pairs), target, "cosine"
    )
    with pytest.raises(FileError, match="has 19 pairs, 20 are needed"):
        calibrate(client, write(tmp_path / "few.jsonl", pairs[:19]), target, "cosine")


def test_no_recipe_is_written_for_an_encoder_that_does_not_distinguish_pairs() -> None:
    with pytest.raises(FileError, match="no more similar"):
        _ = Similarities([0.1] * 20, [0.2] * 20).bounds


def test_the_parts_of_a_large_request_that_were_received_are_written(client: RewardClient, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response": f"b {n}"} for n in range(300)]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    info, n_requests = client.info(), count(1)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/info":
            limits = info.limits.model_copy(update={"max_items": 100})
            return httpx.Response(200, text=info.model_copy(update={"limits": limits}).model_dump_json())
        if next(n_requests) == 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=client.request("POST", request.url.path, request.content))

    never = RetryPolicy(budget_s=0.0)
    with RewardClient("http://t", transport=httpx.MockTransport(answer), retry=never) as failing:
        with pytest.raises(RewardError, match="refused"):
            list(score_file(failing, source, target, batch=300))
        assert len(read(target)) == 200
        list(score_file(failing, source, target, batch=300))

    assert [{**line, "result": None, "scored_by": None} for line in read(target)] == [
        {**row, "result": None, "scored_by": None} for row in rows
    ]
