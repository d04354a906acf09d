"""`glassbox annotate`: files, existing labels, confidence, endpoints that misbehave."""

from __future__ import annotations

import csv
import json
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reward_client.network import free_port
from tests.command import exit_status
from tests.json_server import Received, completions_server

OPEN = {"prompt": "Write a poem about autumn."}
CLOSED = {"prompt": "What is the capital of Norway?", "reference": "Oslo"}


def write(folder: Path, *rows: Mapping[str, Any]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*argv: str | Path) -> int:
    return exit_status("annotate", *argv)


# The classifier -------------------------------------------------------------------------------------------------


def test_rows_get_a_query_type_and_keep_their_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"

    status = run(write(tmp_path, OPEN | {"id": 7, "extra": [1]}, CLOSED, {"prompt": "Who wrote Faust?"}), out)
    first, second, third = lines_of(out)
    printed = capsys.readouterr().err

    assert status == 0
    assert (first["id"], first["extra"], first["query_type"]) == (7, [1], "open_ended")
    assert (second["query_type"], second["query_type_by"], second["query_type_review"]) == (
        "closed_ended", "classifier", False,
    )  # fmt: skip
    assert 0.5 <= second["query_type_confidence"] <= 1
    assert third["query_type"] == "closed_ended"
    assert "3 rows have a query type" in printed
    assert "1 closed_ended rows have no reference" in printed


def test_a_label_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    source = write(tmp_path, OPEN | {"query_type": "closed_ended"}, CLOSED | {"query_type": "CONSTRAINED"})

    run(source, tmp_path / "kept.jsonl")
    run(source, tmp_path / "replaced.jsonl", "--overwrite")

    kept, replaced = lines_of(tmp_path / "kept.jsonl"), lines_of(tmp_path / "replaced.jsonl")
    assert [(row["query_type"], row["query_type_by"]) for row in kept] == [("closed_ended", "given")] * 2
    assert [(row["query_type"], row["query_type_by"]) for row in replaced] == [
        ("open_ended", "classifier"), ("closed_ended", "classifier"),
    ]  # fmt: skip


def test_below_the_confidence_a_row_is_left_for_a_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"

    status = run(write(tmp_path, OPEN, {"prompt": "สวัสดี 42 kx"}), out, "--min-confidence", "0.95")
    sure, unsure = lines_of(out)

    assert status == 0
    assert (sure["query_type"], sure["query_type_review"]) == ("open_ended", False)
    assert (unsure["query_type"], unsure["query_type_review"]) == (None, True)
    assert "1 rows are below 0.95 and left for a person" in capsys.readouterr().err


def test_a_conversation_is_annotated_by_its_last_user_turn(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Write a poem about autumn."},
        {"role": "assistant", "content": "Leaves fall."},
        {"role": "user", "content": "What is the capital of Norway?"},
    ]
    run(write(tmp_path, {"prompt": messages}), tmp_path / "out.jsonl")

    assert lines_of(tmp_path / "out.jsonl")[0]["query_type"] == "closed_ended"


def test_tables_and_another_field(tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("instruction,reference\nWrite a poem about autumn.,\nWhat is the capital of Norway?,Oslo\n")

    assert run(source, out, "--prompt-field", "instruction") == 0
    with out.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["instruction"][:5], row["query_type"], row["query_type_by"]) for row in rows] == [
        ("Write", "open_ended", "classifier"), ("What ", "closed_ended", "classifier"),
    ]  # fmt: skip


def test_the_output_is_one_for_scoring(tmp_path: Path) -> None:
    from reward_client.score_file import read_items

    run(write(tmp_path, CLOSED | {"response": "Oslo"}), tmp_path / "out.jsonl")

    rows, _ = read_items(tmp_path / "out.jsonl")
    assert rows[0].item.query_type == "closed_ended"


def test_all_wrong_rows_are_named_with_line_and_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(
        tmp_path, OPEN, {"question": "x"}, {"prompt": 3}, {"prompt": " "}, OPEN | {"query_type": "maybe"}
    )

    assert run(source, tmp_path / "out.jsonl") == 1
    printed = capsys.readouterr().out
    assert "in.jsonl, line 2: prompt: the field is missing; --prompt-field names another one" in printed
    assert "in.jsonl, line 3: prompt" in printed
    assert "in.jsonl, line 4: prompt: has no text of a user" in printed
    assert "in.jsonl, line 5: query_type" in printed
    assert not (tmp_path / "out.jsonl").exists()


def test_an_output_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path, OPEN), tmp_path / "out.jsonl"
    out.write_text("mine")

    assert run(source, out) == 1
    assert "out.jsonl exists; choose another output file" in capsys.readouterr().out
    assert run(source, source) == 1
    assert "in.jsonl is the input" in capsys.readouterr().out
    assert run(source, tmp_path / "no" / "out.jsonl") == 2
    assert "cannot be written: No such file or directory; create the folder" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_query_type_that_a_person_filled_in_is_given_and_needs_no_review(tmp_path: Path, ending: str) -> None:
    left, again = tmp_path / f"left.{ending}", tmp_path / "again.jsonl"
    run(write(tmp_path, {"prompt": "สวัสดี 42 kx"}), left, "--min-confidence", "0.95")
    empty, filled = (",,classifier", ",open_ended,classifier")
    if ending == "jsonl":
        empty, filled = ('"query_type": null', '"query_type": "open_ended"')
    left.write_text(left.read_text().replace(empty, filled))

    assert run(left, again) == 0
    row = lines_of(again)[0]
    assert row["query_type"] == "open_ended"
    assert (row["query_type_by"], row["query_type_confidence"], row["query_type_review"]) == ("given", None, False)


# An endpoint ----------------------------------------------------------------------------------------------------


def completion(content: str | None, finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "x",
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
    }


def by_first_word(received: Received) -> tuple[int, Any]:
    prompt = received.json()["messages"][-1]["content"]
    return 200, completion("open_ended" if "Write" in prompt else " `closed_ended`.\n")


def annotate(
    folder: Path, answer: Callable[[Received], tuple[int, Any]], *rows: Mapping[str, Any], **options: str
) -> int:
    given = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)]
    with completions_server(answer) as url:
        return run(write(folder, *rows), folder / "out.jsonl", "--endpoint", url, "--model", "m", *given)


def test_a_model_labels_the_rows_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Received] = []

    def answer(received: Received) -> tuple[int, Any]:
        seen.append(received)
        return by_first_word(received)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    rows = [OPEN | {"n": i} if i % 3 else CLOSED | {"n": i} for i in range(40)]
    status = annotate(tmp_path, answer, *rows, OPEN | {"query_type": "open_ended"})
    lines = lines_of(tmp_path / "out.jsonl")

    assert status == 0
    assert [line.get("n") for line in lines] == [*range(40), None]
    assert [line["query_type"] for line in lines[:3]] == ["closed_ended", "open_ended", "open_ended"]
    assert {line["query_type_by"] for line in lines[:40]} == {"endpoint"}
    assert lines[0]["query_type_confidence"] is None
    assert len(seen) == 40, "the row with a label is not sent"
    assert {one.path for one in seen} == {"/v1/chat/completions"}
    assert seen[0].headers["authorization"] == "Bearer sk-test"
    assert (seen[0].json()["model"], seen[0].json()["temperature"]) == ("m", 0)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (completion("I think it is open_ended"), "the reply is neither open_ended nor closed_ended: 'I think"),
        (completion("open_ended or closed_ended"), "the reply is neither"),
        (completion(""), "the reply is neither"),
        (completion(None), "the reply has no text"),
        (completion("open_ended", "length"), "the reply was cut at its token limit: raise --max-tokens"),
        ({"choices": []}, "the reply is not one of OpenAI's API: choices"),
        ({"error": "x"}, "the reply is not one of OpenAI's API: choices"),
        (b"<html>", "the reply is not one of OpenAI's API"),
    ],
)
def test_an_unusable_reply_is_an_error_of_its_line_and_never_a_guess(
    tmp_path: Path, reply: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(received: Received) -> tuple[int, Any]:
        odd = "odd" in received.json()["messages"][-1]["content"]
        return (200, reply) if odd else by_first_word(received)

    status = annotate(tmp_path, answer, OPEN, {"prompt": "the odd one"}, CLOSED)
    lines = lines_of(tmp_path / "out.jsonl")

    assert status == 1
    assert [line["query_type"] for line in lines] == ["open_ended", None, "closed_ended"]
    assert (lines[1]["query_type_review"], lines[1]["query_type_by"]) == (True, "endpoint")
    assert f"in.jsonl, line 2: {message}" in capsys.readouterr().err


def test_reasoning_before_the_answer_is_not_read(tmp_path: Path) -> None:
    reply = completion("<think>Not open_ended, because …</think>\nclosed_ended")

    assert annotate(tmp_path, lambda _: (200, reply), OPEN) == 0
    assert lines_of(tmp_path / "out.jsonl")[0]["query_type"] == "closed_ended"


def test_a_prompt_that_the_endpoint_rejects_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(received: Received) -> tuple[int, Any]:
        odd = "odd" in received.json()["messages"][-1]["content"]
        return (400, {"error": {"message": "too long"}}) if odd else by_first_word(received)

    assert annotate(tmp_path, answer, {"prompt": "odd"}, OPEN) == 1
    assert [line["query_type"] for line in lines_of(tmp_path / "out.jsonl")] == [None, "open_ended"]
    assert "line 1: 400" in capsys.readouterr().err


def test_a_busy_endpoint_is_asked_again(tmp_path: Path) -> None:
    refused = threading.Event()

    def answer(received: Received) -> tuple[int, Any]:
        if not refused.is_set():
            refused.set()
            return 429, {"error": "slow down"}
        return by_first_word(received)

    assert annotate(tmp_path, answer, OPEN, concurrency="1") == 0


def test_a_wrong_key_ends_the_run_and_labels_before_it_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output can be the next input: it has all rows."""

    def answer(received: Received) -> tuple[int, Any]:
        last = "last" in received.json()["messages"][-1]["content"]
        return (401, {"error": {"message": "expired"}}) if last else by_first_word(received)

    status = annotate(tmp_path, answer, OPEN, {"prompt": "last"}, CLOSED, concurrency="1")
    lines = lines_of(tmp_path / "out.jsonl")

    assert status == 1
    assert "401" in capsys.readouterr().out
    assert [line.get("query_type") for line in lines] == ["open_ended", None, None]
    with completions_server(by_first_word) as url:
        again = tmp_path / "again.jsonl"
        assert run(tmp_path / "out.jsonl", again, "--endpoint", f"{url}/v1", "--model", "m") == 0
    assert [line["query_type"] for line in lines_of(again)] == ["open_ended", "closed_ended", "closed_ended"]
    assert lines_of(again)[0]["query_type_by"] == "endpoint"


def interrupting(received: Received) -> tuple[int, Any]:
    """Ctrl-C arrives while the command waits for the reply about the last prompt."""
    if "last" in received.json()["messages"][-1]["content"]:
        signal.raise_signal(signal.SIGINT)
    return by_first_word(received)


def test_ctrl_c_keeps_the_labels_before_it_and_the_output_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    rows = [
        OPEN,
        OPEN,
        {"prompt": "last"},
        CLOSED,
        CLOSED,
        CLOSED,
    ]  # the third is sent once the first has its label
    status = annotate(tmp_path, interrupting, *rows, concurrency="1")
    lines = lines_of(out)

    assert status == 130
    assert f"{out} has all rows: annotate it to continue" in capsys.readouterr().err
    assert [line["prompt"] for line in lines] == [row["prompt"] for row in rows]
    assert lines[0]["query_type_by"] == "endpoint"
    assert "query_type" not in lines[5]


def test_ctrl_c_before_the_first_label_writes_nothing(tmp_path: Path) -> None:
    assert annotate(tmp_path, interrupting, {"prompt": "last"}, OPEN, OPEN, concurrency="1") == 130
    assert not (tmp_path / "out.jsonl").exists()


def test_an_endpoint_that_rejects_the_first_prompts_in_the_same_words_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = 0

    def answer(_: Received) -> tuple[int, Any]:
        nonlocal sent
        sent += 1
        return 400, {"error": {"message": "temperature is not supported"}}

    assert annotate(tmp_path, answer, *[OPEN] * 40, concurrency="1") == 1
    assert 9 <= sent <= 10  # the next row may be on its way
    assert "temperature is not supported" in capsys.readouterr().out
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("message", [lambda n: f"{n} tokens are too many", lambda n: "" if n == 1 else "too long"])
def test_rejections_in_other_words_or_after_a_label_are_errors_of_their_rows(
    tmp_path: Path, message: Callable[[int], str]
) -> None:
    sent = 0

    def answer(received: Received) -> tuple[int, Any]:
        nonlocal sent
        sent += 1
        said = message(sent)
        return (400, {"error": {"message": said}}) if said else by_first_word(received)

    assert annotate(tmp_path, answer, *[OPEN] * 20, concurrency="1") == 1
    assert sent == 20
    assert len(lines_of(tmp_path / "out.jsonl")) == 20


def test_first_prompts_that_are_rejected_are_errors_of_their_rows_when_another_prompt_is_accepted(
    tmp_path: Path,
) -> None:
    def answer(received: Received) -> tuple[int, Any]:
        if "forbidden" in received.json()["messages"][-1]["content"]:
            return 400, {"error": {"message": "the content filter was triggered"}}
        return by_first_word(received)

    rows = [{"prompt": f"forbidden {n}"} for n in range(20)]
    assert annotate(tmp_path, answer, *rows, OPEN, concurrency="4") == 1
    assert [line["query_type"] for line in lines_of(tmp_path / "out.jsonl")] == [None] * 20 + ["open_ended"]


def test_a_failure_at_the_first_row_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert annotate(tmp_path, lambda _: (401, {"error": "no key"}), OPEN) == 1
    assert "401" in capsys.readouterr().out
    assert not (tmp_path / "out.jsonl").exists()


def test_an_endpoint_that_is_not_there_is_one_line_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, started_s = f"http://127.0.0.1:{free_port()}/v1", time.monotonic()

    status = run(write(tmp_path, {"prompt": "p"}), tmp_path / "out.jsonl", "--endpoint", url, "--model", "m")

    assert time.monotonic() - started_s < 5
    assert status == 1
    assert f"glassbox annotate: no server answers at {url} (ConnectError" in capsys.readouterr().out
    assert not (tmp_path / "out.jsonl").exists()


def test_an_endpoint_that_is_not_there_is_not_asked_for_rows_with_labels(tmp_path: Path) -> None:
    source = write(tmp_path, {"prompt": "p", "query_type": "open_ended"})
    url = f"http://127.0.0.1:{free_port()}/v1"

    assert run(source, tmp_path / "out.jsonl", "--endpoint", url, "--model", "m") == 0


def test_endpoint_and_model_are_needed_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path, OPEN), tmp_path / "out.jsonl", "--model", "m") == 1
    assert "--endpoint and --model are needed together" in capsys.readouterr().out
