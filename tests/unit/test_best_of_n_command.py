"""`glassbox best-of-n`: samples of any source become a report; a stop loses nothing; wrong input is an error."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from reward_client.cli.main import main
from reward_client.network import free_port
from reward_client.wire import ItemResult, ModelNames, RecipeName, ScoreReply, ScoreRequest, TimingMs
from reward_evidence.sampling.recorded import read_responses
from reward_runs.layout import RunDir
from reward_runs.record import RunRecord
from reward_service.settings import Settings
from tests.api.test_several_golds import Service
from tests.doubles import LengthGold
from tests.json_server import Received, completions_server, json_server
from tests.live import serving
from tests.unit.evidence_run import info
from tests.unit.test_commands import ENTRY_POINTS
from tests.unit.tiny_policy import make_tiny_policy

N = 4


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service whose gold model rewards every character."""
    with serving(Settings()) as url:
        yield url


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Three prompts with four samples each, whose lengths differ."""
    path = tmp_path / "samples.jsonl"
    rows = [
        {"prompt": f"Question {p}?", "response": " ".join(["word"] * ((5 * p + 3 * s) % 7 + 1))}
        for p in range(3)
        for s in range(N)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(service: str, out: Path, *options: Any) -> int:
    argv = ["best-of-n", "--reward-url", service, "--out", str(out), *map(str, options)]
    return main(argv, ENTRY_POINTS)


def result(out: Path) -> Any:
    return json.loads((out / "best_of_n.json").read_text())


def curves(out: Path) -> dict[str, Any]:
    return {curve["name"]: curve for curve in result(out)["figures"]["curves"]}


def n_requests(service: str) -> float:
    found = re.findall(r"^glassbox_requests_total\{.*score.*\} (\S+)$", httpx.get(f"{service}/metrics").text, re.M)
    assert found
    return sum(map(float, found))


# Samples in a file --------------------------------------------------------------------------------


def test_samples_of_a_file_are_judged_by_every_recipe(
    service: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert run(service, out, "--samples-file", samples, "--recipe", "li", "--recipe", "rer") == 0

    found = curves(out)
    assert list(found) == ["li", "rer", "longest", "random", "gold"]
    assert [point["n"] for point in found["li"]["points"]] == [1, 2, 4]
    lengths = [[len(" ".join(["word"] * ((5 * p + 3 * s) % 7 + 1))) / 10 for s in range(N)] for p in range(3)]
    assert found["li"]["points"][0]["gold"]["mean"] == pytest.approx(sum(map(sum, lengths)) / 12)
    assert found["li"]["points"][2]["gold"]["mean"] == pytest.approx(sum(map(max, lengths)) / 3)
    assert found["li"]["share_of_possible"]["value"] == pytest.approx(1.0)
    assert result(out)["service"]["gold"]["id"] == "length-gold"
    assert "a stand-in of the tests" in result(out)["notices"]
    printed = capsys.readouterr().out
    assert re.search(r"^li +1\.\d+ ", printed, re.M)
    assert "li − rer:" in printed


def test_other_gold_models_are_listed_and_judge_nothing(
    service: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`b` is minus the gold reward of `a`, so every change has the opposite sign."""
    golds = Service("a,b", encoder="letters")
    with serving(golds.settings, gold_loader=golds.load) as url:
        assert run(url, tmp_path / "out", "--samples-file", samples, "--recipe", "li") == 0
        before = n_requests(url)
        assert run(url, tmp_path / "out", "--samples-file", samples, "--recipe", "li") == 0
        assert n_requests(url) == before
    assert run(service, tmp_path / "alone", "--samples-file", samples, "--recipe", "li") == 0

    found = result(tmp_path / "out")["figures"]
    alone = result(tmp_path / "alone")["figures"]
    assert (found["curves"], found["comparisons"]) == (alone["curves"], alone["comparisons"])
    assert list(found["other_golds"]) == ["b"]
    changes = {
        name: curve["points"][-1]["gold_change"]["mean"] for name, curve in curves(tmp_path / "out").items()
    }
    assert found["other_golds"]["b"]["li"]["mean"] == pytest.approx(-changes["li"])
    assert found["other_golds"]["b"]["random"]["mean"] == 0
    assert "b, beside the primary gold model: change from n = 1 to n = 4" in capsys.readouterr().out
    page = (tmp_path / "out" / "best_of_n.html").read_text()
    assert "rest on the primary gold model alone, a." in page


def test_a_gold_model_beside_the_primary_one_that_is_new_is_scored_with(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for gold, others in (("a", []), ("a,b", ["b"]), ("a", [])):
        golds = Service(gold, encoder="letters")
        with serving(golds.settings, gold_loader=golds.load) as url:
            assert run(url, out, "--samples-file", samples, "--recipe", "li") == 0
        assert list(result(out)["figures"]["other_golds"]) == others


def test_a_result_that_cannot_be_written_is_an_error_that_names_the_file(
    service: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "best_of_n.json").mkdir(parents=True)

    assert run(service, out, "--samples-file", samples, "--recipe", "li") == 2

    message = f"error: {out / 'best_of_n.json'} cannot be written: Is a directory; it is a folder: name a file\n"
    assert capsys.readouterr().err.endswith(message)
    assert not list(out.glob(".*.tmp"))


def test_a_folder_that_cannot_be_made_is_an_error(
    service: str, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(service, samples / "out", "--samples-file", samples, "--recipe", "li") == 2

    assert "out cannot be written: Not a directory" in capsys.readouterr().err


def test_long_texts_are_cut_on_the_page(service: str, tmp_path: Path) -> None:
    samples, out = tmp_path / "long.jsonl", tmp_path / "out"
    rows = [
        {
            "prompt": "What? " + "p" * 9_000,
            "response": f"{' '.join(['word'] * n)} {'r' * 9_000}",
            "reference": "a" * 9_000,
            "query_type": "closed_ended",
        }
        for n in (1, 5)
    ]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))

    recipes = ("--recipe", "li", "--recipe", "rer", "--recipe-override", "max_response_tokens=77")
    assert run(service, out, "--samples-file", samples, *recipes) == 0

    page = (out / "best_of_n.html").read_text()
    assert not re.search("p{4001}|r{4001}|a{4001}", page)


def test_a_finished_run_scores_nothing_again_and_a_further_recipe_only_itself(
    service: str, samples: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(service, out, "--samples-file", samples, "--recipe", "li")
    first = result(out)

    before = n_requests(service)
    assert run(service, out, "--samples-file", samples, "--recipe", "li") == 0
    assert n_requests(service) == before
    assert result(out)["figures"] == first["figures"]
    assert result(out)["notices"] == first["notices"]

    assert run(service, out, "--samples-file", samples, "--recipe", "li", "--recipe", "li-rp") == 0
    assert n_requests(service) == before + 1
    assert list(curves(out)) == ["li", "li-rp", "longest", "random", "gold"]


def test_changed_responses_and_overrides_are_scored_again(service: str, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(service, out, "--samples-file", samples, "--recipe", "li")
    first = curves(out)["li"]["points"]

    samples.write_text(
        samples.read_text().replace('Question 1?", "response": "', 'Question 1?", "response": "extra ')
    )
    assert run(service, out, "--samples-file", samples, "--recipe", "li") == 0
    assert curves(out)["li"]["points"][0]["gold"]["mean"] == pytest.approx(first[0]["gold"]["mean"] + 0.6 / 3)

    override = ("--recipe-override", 'open_ended=["max_length_incentive"]')
    assert run(service, out, "--samples-file", samples, "--recipe", "li", *override) == 0
    assert curves(out)["li"]["points"][2]["reward_change_sd"] is None  # a constant


def test_scores_that_were_cut_off_are_completed(service: str, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(service, out, "--samples-file", samples, "--recipe", "li")
    first = result(out)
    path = out / "scores" / "li.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    assert run(service, out, "--samples-file", samples, "--recipe", "li") == 0

    assert result(out)["figures"] == first["figures"]
    assert len(path.read_text().splitlines()) == 3


def test_a_score_file_that_was_damaged_is_an_error_with_its_line(
    service: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(service, out, "--samples-file", samples, "--recipe", "li")
    path = out / "scores" / "li.jsonl"
    path.write_text(re.sub(r'"rewards": \[[^\]]*\]', '"rewards": [NaN]', path.read_text()))

    assert run(service, out, "--samples-file", samples, "--recipe", "li") == 1
    assert "li.jsonl, line 1" in capsys.readouterr().err


def test_gold_is_read_with_the_default_recipe_where_no_recipe_gold_exists(samples: Path, tmp_path: Path) -> None:
    asked: list[tuple[str, bool]] = []

    def answer(received: Received) -> tuple[int, Any]:
        if received.method == "GET":
            return 200, info().model_dump(mode="json") if received.path == "/info" else {}
        request = ScoreRequest.model_validate_json(received.body)
        asked.append((str(request.recipe), request.gold))
        results = [
            ItemResult(reward=1.0, gold_reward=float(len(item.response)) if request.gold else None, id=item.id)
            for item in request.items
        ]
        reply = ScoreReply(
            rewards=[1.0] * len(results),
            results=results,
            recipe=RecipeName(name="rer", hash="c0ffee00"),
            models=ModelNames(relevance=None, gold="demo-gold" if request.gold else None, gold_revision="bbbb"),
            timing_ms=TimingMs(queue=0, encode=0, gold=None, total=0),
        )
        return 200, reply.model_dump(mode="json")

    with json_server(answer) as url:
        assert run(url, tmp_path / "out", "--samples-file", samples) == 0

    assert asked == [("rer", True), ("rer", False)]
    assert list(curves(tmp_path / "out")) == ["rer", "longest", "random", "gold"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "5"], "has 4 samples, --n 5 needs 5"),
        (["--temperature", "1"], "--temperature cannot be combined with --samples-file"),
        (["--limit", "1"], "--limit cannot be combined with --samples-file"),
        (["--model", "m"], "--model cannot be combined with --samples-file"),
        (["--recipe", "lii"], "no recipe 'lii'"),
        (["--recipe", "gold"], "gold is always shown"),
        (["--recipe", "random"], "random is always shown"),
        (["--recipe", "li", "--recipe-override", "nothing=1"], "nothing"),
    ],
)
def test_wrong_options_are_errors(
    options: list[str],
    message: str,
    service: str,
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(service, tmp_path / "out", "--samples-file", samples, *options) == 1
    assert message in capsys.readouterr().err


def test_a_smaller_n_takes_the_first_samples(service: str, samples: Path, tmp_path: Path) -> None:
    assert run(service, tmp_path / "out", "--samples-file", samples, "--recipe", "li", "--n", "2") == 0
    assert result(tmp_path / "out")["figures"]["n_samples"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no responses"),
        ('{"prompt": "a"}\n', "line 1: response"),
        ('{"prompt": "a", "response": "b"}\n{"prompt": 3, "response": "b"}\n', "line 2: prompt"),
        ('{"prompt": "a", "response": "b", "step": 1}\n{"prompt": "a", "response": "b"}\n', "steps 0, 1"),
        ('{"prompt": "a", "response": "b", "reference": "c"}\n', "line 1: query_type"),
    ],
)
def test_a_wrong_file_is_an_error_with_line_and_field(
    text: str, message: str, service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(text)

    assert run(service, tmp_path / "out", "--samples-file", path) == 1
    assert message in capsys.readouterr().err


def test_a_service_without_a_gold_model_is_an_error_before_anything_is_sampled(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Settings(gold="none")) as url:
        assert run(url, tmp_path / "out", "--policy", "./nowhere") == 1
    assert "no gold model" in capsys.readouterr().err


# Samples of an endpoint --------------------------------------------------------------------------------


def chat(received: Received) -> tuple[int, Any]:
    body = received.json()
    texts = [f"{'word ' * ((body['seed'] + i) % 9 + 1)}{i}" for i in range(body["n"])]
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]}


def test_an_endpoint_is_sampled_once_and_its_samples_can_be_judged_again(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "endpoint-key")
    monkeypatch.setenv("GLASSBOX_API_KEY", "service-key")
    keys = set()

    def answer(received: Received) -> tuple[int, Any]:
        keys.add(received.headers["authorization"])
        return chat(received)

    out, again = tmp_path / "out", tmp_path / "again"
    with completions_server(answer) as endpoint:
        options = ("--endpoint", endpoint, "--model", "tiny", "--n", N, "--limit", 5, "--recipe", "li")
        assert run(service, out, *options) == 0
        n_lines = len((out / "samples.jsonl").read_text().splitlines())
    assert n_lines == 5 * N
    assert keys == {"Bearer endpoint-key"}
    assert result(out)["settings"]["source"]["model"] == "tiny"
    assert "-key" not in (out / "best_of_n.json").read_text()

    assert run(service, out, *options) == 0  # without the endpoint: no sample is missing
    assert run(service, again, "--samples-file", out / "samples.jsonl", "--recipe", "li") == 0
    assert result(again)["figures"] == result(out)["figures"]
    assert len(read_responses(out / "samples.jsonl")[0].samples) == 5 * N  # as `glassbox evaluate --responses`


def test_a_run_that_failed_continues_with_the_missing_prompts_only(
    service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    refused = {"a bad prompt"}

    def answer(received: Received) -> tuple[int, Any]:
        content = received.json()["messages"][-1]["content"]
        if content in refused:
            return 400, {"error": {"message": "refused"}}
        asked.append(content)
        return chat(received)

    prompts = tmp_path / "prompts.jsonl"
    texts = ["first", "second", "a bad prompt", "last"]
    prompts.write_text("".join(json.dumps({"id": f"id-{text}", "prompt": text}) + "\n" for text in texts))
    out = tmp_path / "out"
    with completions_server(answer) as endpoint:
        options = ("--endpoint", endpoint, "--model", "m", "--prompts", prompts, "--n", 2, "--in-flight", 1)
        assert run(service, out, *options, "--recipe", "li") == 1
        message = capsys.readouterr().err
        assert "prompt 3 of 4 (id-a bad prompt)" in message
        assert "refused" in message
        assert not (out / "best_of_n.json").exists()

        with (out / "samples.jsonl").open("ab") as file:  # as after a kill while writing
            file.write(b'{"prompt_id": "id-last", "sam')
        refused.clear()
        n_before = len(asked)
        assert run(service, out, *options, "--recipe", "li") == 0

    assert {"first", "second"}.isdisjoint(asked[n_before:])
    assert "a bad prompt" in asked[n_before:]
    assert result(out)["figures"]["n_prompts"] == 4


def test_a_prompt_with_some_of_its_samples_is_drawn_again(service: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with completions_server(chat) as endpoint:
        options = ("--endpoint", endpoint, "--model", "m", "--n", 3, "--limit", 2, "--recipe", "li")
        run(service, out, *options)
        first = sorted((out / "samples.jsonl").read_text().splitlines())
        (out / "samples.jsonl").write_text("\n".join(first[:-1]) + "\n")
        assert run(service, out, *options) == 0

    assert sorted((out / "samples.jsonl").read_text().splitlines()) == first


def test_samples_of_other_settings_are_never_mixed(
    service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with completions_server(chat) as endpoint:
        options = ("--endpoint", endpoint, "--model", "m", "--n", 2, "--limit", 2, "--recipe", "li")
        run(service, out, *options)
        assert run(service, out, *options, "--temperature", 0.5) == 1
        assert "other settings (temperature: 1.0, now 0.5)" in capsys.readouterr().err
        more = [*options[:-3], 3, *options[-2:]]
        assert run(service, out, *more) == 0  # more prompts are added

    assert result(out)["figures"]["n_prompts"] == 3


def test_an_endpoint_that_is_not_there_is_one_line_at_once(
    service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint, started_s = f"http://127.0.0.1:{free_port()}", time.monotonic()

    assert run(service, tmp_path / "out", "--endpoint", endpoint, "--model", "m") == 1

    assert time.monotonic() - started_s < 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: no server answers at {endpoint}/v1 (ConnectError")


def test_an_endpoint_needs_a_model(service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(service, tmp_path / "out", "--endpoint", "http://127.0.0.1:9") == 1
    assert "--endpoint needs --model" in capsys.readouterr().err


def test_a_gold_model_that_is_fitted_on_the_sampled_model_is_named(tmp_path: Path) -> None:
    make_tiny_policy(tmp_path / "run" / "checkpoints" / "000012", 1)
    RunRecord(policy="owner/tiny", recipe="li", max_new_tokens=8).write(RunDir(tmp_path / "run"))
    sampling = ("--n", 2, "--limit", 2, "--recipe", "li", "--max-new-tokens", 8)
    checkpoint = tmp_path / "run" / "checkpoints" / "000012"
    with (
        serving(Settings(), gold_loader=lambda _: LengthGold(encoder_base="tiny")) as url,
        completions_server(chat) as endpoint,
    ):
        assert run(url, tmp_path / "served", "--endpoint", endpoint, "--model", "owner/tiny", *sampling) == 0
        assert run(url, tmp_path / "other", "--endpoint", endpoint, "--model", "owner/other", *sampling) == 0
        assert run(url, tmp_path / "trained", "--policy", checkpoint, *sampling) == 0

    named = {
        name: any("fitted on tiny, which is also the policy" in one for one in result(tmp_path / name)["notices"])
        for name in ("served", "other", "trained")
    }
    assert named == {"served": True, "other": False, "trained": True}


# Samples of a policy --------------------------------------------------------------------------------


def test_a_policy_gives_the_same_samples_after_a_stop(service: str, tmp_path: Path) -> None:
    make_tiny_policy(tmp_path / "policy", 1)
    options = ("--policy", tmp_path / "policy", "--n", 3, "--limit", 5, "--max-new-tokens", 8, "--batch-size", 6)
    assert run(service, tmp_path / "whole", *options, "--recipe", "li") == 0
    whole = (tmp_path / "whole" / "samples.jsonl").read_text().splitlines()
    assert len(whole) == 15
    assert len({json.loads(line)["response"] for line in whole}) > 5

    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "samples.json").write_text((tmp_path / "whole" / "samples.json").read_text())
    (stopped / "samples.jsonl").write_text("\n".join(whole[3:6]) + "\n")  # one prompt of the first batch
    assert run(service, stopped, *options, "--recipe", "li") == 0

    assert sorted((stopped / "samples.jsonl").read_text().splitlines()) == sorted(whole)
    lines = [json.loads(line) for line in whole]
    assert all(line["truncated"] == (line["n_tokens"] == 8) or not line["truncated"] for line in lines)


def test_a_folder_without_a_model_is_an_error(
    service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(service, tmp_path / "out", "--policy", "./nowhere") == 1
    assert "policy './nowhere' cannot be loaded: there is no such folder" in capsys.readouterr().err


# The page --------------------------------------------------------------------------------


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.external: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.external += [
            value for name, value in attrs if name in ("src", "href") and value and "data:" not in value
        ]


def test_the_page_is_self_contained_and_escapes_responses(service: str, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    hostile = "<script>alert(1)</script>"
    rows = [
        {
            "prompt": f"{hostile} {p}",
            "response": hostile + " a" * 30 if s else " ".join(f"w{i}" for i in range(30)),
        }
        for p in range(3)
        for s in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert run(service, tmp_path / "out", "--samples-file", path, "--recipe", "li", "--recipe", "li-rp") == 0

    text = (tmp_path / "out" / "best_of_n.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.external == []
    assert "script" not in page.tags
    assert page.tags.count("img") == 2
    assert "prefers-color-scheme: dark" in text
    assert "&lt;script&gt;" in text
