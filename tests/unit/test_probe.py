"""`glassbox probe`: a live service with stand-in models, servers of OpenRLHF's protocol, the report's figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from reward_client import RewardClient, RewardError
from reward_client.html_page import cut
from reward_client.probe.case import cases_from_rows
from reward_client.probe.kinds import KINDS
from reward_client.probe.page import render as render_page
from reward_client.probe.report import NO_FEATURE, Report, build, to_blame
from reward_client.probe.run import Pair
from reward_client.probe.scorers import Failed, Outcome, Scored, ScoreProtocol, Subject, openrlhf_route
from reward_client.probe.table import WIDTH, percent
from reward_client.probe.table import render as render_table
from reward_service.settings import Settings
from tests.command import exit_status
from tests.live import serving
from tests.unit import client_server

ANSWER = (
    "Give it six hours of sun, and water the soil. Pick the tips weekly, so that it branches. "
    "Bring the pot inside below ten degrees, because cold turns leaves black. Feed it monthly."
)
OPEN = {"prompt": "How do I keep basil alive?", "response": ANSWER}
CLOSED = {"prompt": "What is 12 × 12?", "response": "144", "reference": "144", "query_type": "closed_ended"}


@pytest.fixture(scope="module")
def service_url() -> Iterator[str]:
    """A service with stand-in models."""
    with serving(Settings()) as url:
        yield url


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write(tmp_path, OPEN, CLOSED)


def write(folder: Path, *rows: Mapping[str, Any]) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*argv: str | Path) -> int:
    return exit_status("probe", *argv)


def report_of(path: Path) -> Report:
    return Report.model_validate_json(path.read_text(encoding="utf-8"))


# The command with the service -----------------------------------------------------------------------------------


def test_a_reward_for_length_is_shown_to_pay_for_length(
    service_url: str, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run("--url", service_url, "--recipe", "li", "--prompts", prompts, "--json", tmp_path / "r.json")
    report = report_of(tmp_path / "r.json")
    kinds = {kind.name: kind for kind in report.kinds}
    printed = capsys.readouterr().out

    assert status == 0
    assert report.schema_version == 1
    assert (report.subject["recipe"], report.n_prompts, report.n_errors) == ("li", 2, 0)
    assert kinds["padded"].accuracy == 0.0
    assert kinds["padded"].to_blame == {"length_incentive": 2}
    assert kinds["cut"].accuracy == 1.0
    assert "recipe li" in printed
    assert "length_incentive" in printed


def test_the_table_fits_80_columns(service_url: str, prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--url", service_url, "--recipe", "rer", "--gold", "--prompts", prompts)

    table = capsys.readouterr().out.split("\n\n")[1]
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "gold" in table


def test_the_requirement_decides_the_exit_status_and_names_the_kinds(
    service_url: str, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--url", service_url, "--recipe", "li", "--prompts", prompts)

    assert run(*common, "--require", "0.95") == 1
    printed = capsys.readouterr().out
    assert "The mean is below 0.95." in printed
    assert "padded is below 0.95: 0.000" in printed
    assert "cut is below" not in printed
    assert run(*common, "--require", "0") == 0


def test_a_response_that_cannot_be_scored_is_an_error_in_no_figure(
    service_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stand-in encoder answers NaN for this text."""
    prompts = write(tmp_path, OPEN | {"worse": {"mine": ["NAN", "good"]}})

    status = run(
        *("--url", service_url, "--recipe", "rer", "--prompts", prompts),
        *("--json", tmp_path / "r.json", "--require", "0"),
    )
    report = report_of(tmp_path / "r.json")
    mine = next(kind for kind in report.kinds if kind.name == "mine")

    assert (mine.pairs, mine.errors, mine.group) == (1, 1, "your own")
    assert (report.errors[0].kind, report.errors[0].prompt) == ("mine", OPEN["prompt"])
    assert "not a finite number" in report.errors[0].message
    assert status == 1
    assert "1 pairs have no rewards, so the requirement is not met." in capsys.readouterr().out


def test_when_the_good_answer_cannot_be_scored_its_pairs_are_errors(service_url: str, tmp_path: Path) -> None:
    prompts = write(tmp_path, OPEN, OPEN | {"response": "NAN " + ANSWER})

    run("--url", service_url, "--recipe", "rer", "--prompts", prompts, "--json", tmp_path / "r.json")
    report = report_of(tmp_path / "r.json")

    assert report.n_errors == pytest.approx(report.n_pairs, abs=2)
    assert report.errors[0].message.startswith("the good answer has no reward: ")


def test_a_response_beyond_the_limits_of_the_service_fails_alone(tmp_path: Path) -> None:
    prompts = write(tmp_path, OPEN | {"worse": {"mine": ["long " * 1_000]}})
    with serving(Settings(max_text_chars=4_000)) as url:
        run("--url", url, "--recipe", "rer", "--prompts", prompts, "--json", tmp_path / "r.json")

    report = report_of(tmp_path / "r.json")
    assert [error.kind for error in report.errors] == ["mine"]
    assert report.n_pairs > 40


def test_an_unknown_recipe_is_an_error_that_names_the_others(
    service_url: str, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--url", service_url, "--recipe", "rex", "--prompts", prompts) == 1
    assert "no recipe 'rex'; did you mean 'rer'?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "line 2: response: Field required"),
        ({"prompt": "a", "response": " "}, "line 2: response: a good answer is required"),
        ({"prompt": "a", "response": "b", "reference": "c"}, "line 2: query_type is required beside a reference"),
        ({"prompt": "a", "response": "b", "query_type": "closed_ended"}, "line 2: reference is required"),
        ({"prompt": "a", "response": "b", "worse": {"k": "text"}}, "line 2: worse.k: "),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_its_field(
    tmp_path: Path, row: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--prompts", write(tmp_path, OPEN, row)) == 1
    assert message in capsys.readouterr().out


def test_a_default_query_type_is_for_prompts_with_a_reference(service_url: str, tmp_path: Path) -> None:
    prompts = write(tmp_path, {key: CLOSED[key] for key in ("prompt", "response", "reference")})

    run(
        *("--url", service_url, "--recipe", "li", "--prompts", prompts, "--json", tmp_path / "r.json"),
        *("--query-type-default", "closed_ended"),
    )

    assert "near_number" in {kind.name for kind in report_of(tmp_path / "r.json").kinds}


def test_a_conversation_is_probed_by_its_last_user_turn(service_url: str, tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How do I keep basil?"}]

    run(
        *("--url", service_url, "--recipe", "li", "--json", tmp_path / "r.json"),
        *("--prompts", write(tmp_path, {"prompt": messages, "response": ANSWER})),
    )

    copied = next(kind for kind in report_of(tmp_path / "r.json").kinds if kind.name == "prompt_copied")
    assert copied.examples[0].worse.response == "How do I keep basil?"


def test_an_output_that_cannot_be_written_is_an_error(
    service_url: str, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(
        "--url", service_url, "--recipe", "li", "--prompts", prompts, "--html", tmp_path / "no" / "r.html"
    )

    printed = capsys.readouterr()
    assert status == 2
    assert "r.html cannot be written: No such file or directory" in printed.err
    assert printed.out == "", "it is found before anything is scored"


def test_factors_are_those_that_were_multiplied(tmp_path: Path) -> None:
    """After the recipe's transforms: the reward is their product."""
    recipe = "description: d\nopen_ended: [{feature: length_incentive, saturate: 0.1}, repetition_penalty]\n"
    (tmp_path / "short.yaml").write_text(recipe + "closed_ended: [length_incentive]\n")
    with serving(Settings(recipes_dir=tmp_path)) as url:
        run("--url", url, "--recipe", "short", "--prompts", write(tmp_path, OPEN), "--json", tmp_path / "r.json")

    doubled = next(kind for kind in report_of(tmp_path / "r.json").kinds if kind.name == "doubled").examples[0]
    assert doubled.good.factors == {"length_incentive": 1.0, "repetition_penalty": 1.0}
    assert doubled.worse.reward == pytest.approx(doubled.worse.factors["repetition_penalty"])


def test_a_service_without_attribution_gives_the_features_of_the_recipe() -> None:
    """As services before `explain`: the field is rejected once, and not sent again."""
    requests: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/info":
            return httpx.Response(200, json=INFO)
        body = json.loads(request.content)
        requests.append(body)
        if "explain" in body:
            errors = [{"item": None, "field": "explain", "message": "Extra inputs are not permitted"}]
            problem = {"title": "invalid", "status": 422, "detail": "1 error", "errors": errors}
            return httpx.Response(422, json=problem)
        results = [
            {"reward": 2.0, "features": {"length": 2.0, "unused": 1.0, "none": None}} for _ in body["items"]
        ]
        return httpx.Response(200, json=SCORED | {"rewards": [2.0] * len(results), "results": results})

    with RewardClient("http://old", transport=httpx.MockTransport(answer)) as client:
        scorer = ScoreProtocol(client, "mine")
        first, second = scorer.score([CASE.item]), scorer.score([CASE.item])

    assert first == second == [Scored(2.0, factors={"length": 2.0})]
    assert ["explain" in body for body in requests] == [True, False, False]


# Other rewards ------------------------------------------------------------------------------------------------

Answer = Callable[[dict[str, list[Any]]], tuple[int, Any]]


@contextmanager
def reward_server(answer: Answer) -> Iterator[str]:
    """A server that is not ours and speaks OpenRLHF's protocol."""

    def behave(_: client_server.Served, handler: BaseHTTPRequestHandler, __: int) -> None:
        status, reply = answer(json.loads(handler.rfile.read(int(handler.headers["content-length"]))))
        body = json.dumps(reply).encode()
        handler.wfile.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))

    with client_server.serving(behave, reads_body=False) as served:
        yield served.url


def by_length(body: dict[str, list[Any]]) -> tuple[int, Any]:
    return 200, {"rewards": [float(len(query)) for query in body["query"]], "more": "ignored"}


def test_a_server_of_openrlhfs_protocol_is_probed_by_its_totals(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, list[Any]]] = []

    def answer(body: dict[str, list[Any]]) -> tuple[int, Any]:
        seen.append(body)
        return by_length(body)

    with reward_server(answer) as url:
        status = run(
            *("--protocol", "openrlhf", "--url", url, "--prompts", prompts),
            *("--json", tmp_path / "r.json", "--html", tmp_path / "r.html"),
        )
    report = report_of(tmp_path / "r.json")
    kinds = {kind.name: kind for kind in report.kinds}

    assert status == 0
    assert seen[0]["query"][0] == f"{OPEN['prompt']}\n{ANSWER}"
    assert seen[0]["labels"][:2] == [None, "144"]
    assert (kinds["padded"].accuracy, kinds["padded"].to_blame) == (0.0, {})
    assert report.subject["url"].endswith("/get_reward")
    assert "/get_reward" in capsys.readouterr().out


def test_a_sample_that_the_server_rejects_fails_alone(tmp_path: Path) -> None:
    def answer(body: dict[str, list[Any]]) -> tuple[int, Any]:
        if any("odd one" in query for query in body["query"]):
            return 422, {"title": "no", "status": 422, "detail": "one sample is odd"}
        return by_length(body)

    prompts = write(tmp_path, OPEN | {"worse": {"mine": ["the odd one"]}})
    with reward_server(answer) as url:
        run("--protocol", "openrlhf", "--url", url, "--prompts", prompts, "--json", tmp_path / "r.json")

    report = report_of(tmp_path / "r.json")
    assert [(error.kind, "one sample is odd" in error.message) for error in report.errors] == [("mine", True)]


def test_a_reward_that_is_not_finite_is_an_error(prompts: Path, tmp_path: Path) -> None:
    def answer(body: dict[str, list[Any]]) -> tuple[int, Any]:
        return 200, {"rewards": [float("nan") if query.endswith("\n") else 1.0 for query in body["query"]]}

    with reward_server(answer) as url:
        run("--protocol", "openrlhf", "--url", url, "--prompts", prompts, "--json", tmp_path / "r.json")

    report = report_of(tmp_path / "r.json")
    nothing = next(kind for kind in report.kinds if kind.name == "nothing")
    assert nothing.errors > 0
    assert "nan" in report.errors[0].message


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, {"rewards": [1.0]}), "samples has 1 rewards"),
        ((200, {"scores": []}), "the reply is not one of OpenRLHF's protocol: rewards: Field required"),
        ((401, {"title": "no key", "status": 401, "detail": "send one"}), "401 no key: send one"),
        ((422, {"title": "no", "status": 422, "detail": "unknown option"}), "unknown option"),
    ],
    ids=["too few", "other fields", "no key", "every sample rejected"],
)
def test_a_server_that_cannot_score_is_one_clear_error(
    prompts: Path, reply: tuple[int, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with reward_server(lambda _: reply) as url:
        assert run("--protocol", "openrlhf", "--url", url, "--prompts", prompts) == 1
    assert message in capsys.readouterr().out


def test_our_own_service_can_be_probed_through_openrlhfs_protocol(
    service_url: str, prompts: Path, tmp_path: Path
) -> None:
    run(
        *("--protocol", "openrlhf", "--url", service_url, "--recipe", "li", "--label", "json"),
        *("--prompts", prompts, "--json", tmp_path / "r.json"),
    )
    kinds = {kind.name: kind for kind in report_of(tmp_path / "r.json").kinds}

    assert kinds["padded"].accuracy == 0.0
    assert kinds["cut"].accuracy == 1.0


def test_the_gold_model_needs_our_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--protocol", "openrlhf", "--gold") == 1
    assert "--gold needs --protocol score" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "recipe", "expected"),
    [
        ("http://h:1", None, ("http://h:1", "/get_reward")),
        ("http://h:1/", "rer", ("http://h:1", "/get_reward?recipe=rer")),
        ("http://h:1/reward?a=b", None, ("http://h:1", "/reward?a=b")),
        ("http://key:s@h/x?a=b", "li", ("http://key:s@h", "/x?a=b&recipe=li")),
    ],
)
def test_a_url_without_a_path_is_that_of_openrlhf(url: str, recipe: str | None, expected: tuple[str, str]) -> None:
    server, route = expected

    assert openrlhf_route([url, url], recipe) == ([server, server], route)


def test_replicas_of_different_routes_are_an_error() -> None:
    with pytest.raises(RewardError, match=r"the same path and options, not /a\?b=c and /a"):
        openrlhf_route(["http://h:1/a?b=c", "http://h:2/a"], None)


def test_the_options_of_a_url_reach_a_server_of_openrlhfs_protocol(prompts: Path, tmp_path: Path) -> None:
    with reward_server(by_length) as url:
        status = run(
            *("--protocol", "openrlhf", "--url", f"{url}/reward?a=b", "--prompts", prompts),
            *("--json", tmp_path / "r.json"),
        )

    assert status == 0
    assert report_of(tmp_path / "r.json").subject["url"] == f"{url}/reward?a=b"


# Figures ------------------------------------------------------------------------------------------------------

CASE = cases_from_rows([{"prompt": "p <b>&", "response": "<script>good</script>"}], "test")[0]
INFO = {
    "version": "0.2.0",
    "default_recipe": "mine",
    "recipes": [
        {
            "name": "mine",
            "hash": "x",
            "description": "",
            "reward_range": [0, 1],
            "calibrated_for": None,
            "needs_encoder": False,
            "needs_gold": False,
            "parameters": {
                "open_ended": [{"feature": "none", "otherwise": {"feature": "length", "power": 2}}],
                "closed_ended": ["length"],
            },
        }
    ],
    "relevance": None,
    "gold": None,
    "limits": {"max_body_bytes": 1, "max_items": 1, "max_text_chars": 1},
    "versions": {},
}
SCORED = {
    "recipe": {"name": "mine", "hash": "x"},
    "models": {"relevance": None, "gold": None},
    "timing_ms": {"queue": 0, "encode": 0, "gold": None, "total": 0},
}
SUBJECT = Subject("http://h", "score", "my-recipe", "abc")


def pair(kind: str, good: float, worse: Outcome | float, **factors: tuple[float, float]) -> Pair:
    scored = Scored(good, factors={name: values[0] for name, values in factors.items()})
    if not isinstance(worse, Scored | Failed):
        worse = Scored(worse, factors={name: values[1] for name, values in factors.items()})
    return Pair(CASE, KINDS[kind], "<i>worse</i>", scored, worse)


def test_ties_count_half_and_the_mean_is_over_kinds() -> None:
    pairs = [
        pair("cut", 1, 0),
        pair("cut", 1, 1),
        pair("cut", 1, 1 + 1e-8),
        pair("cut", 1, 2),
        pair("padded", 1, 0),
    ]

    report = build(pairs, SUBJECT, "test", 1)

    assert [(kind.accuracy, kind.ties) for kind in report.kinds] == [(0.5, 2), (1.0, 0)]
    assert report.accuracy == 0.75


def test_the_worse_share_is_that_of_the_means_and_unknown_with_negative_rewards() -> None:
    report = build([pair("cut", 4, 1), pair("cut", 2, 2), pair("padded", 1, -1)], SUBJECT, "test", 1)

    assert [kind.worse_share for kind in report.kinds] == [0.5, None]


def test_the_factor_that_grew_most_is_to_blame() -> None:
    pairs = [
        pair("cut", 1.0, 2.0, length=(1.0, 4.0), relevance=(0.5, 0.25)),
        pair("cut", 1.0, 1.0, length=(1.0, 1.0), relevance=(0.5, 0.5)),
        pair("cut", 2.0, 1.0, length=(1.0, 2.0), relevance=(0.5, 0.1)),
    ]

    assert build(pairs, SUBJECT, "test", 1).kinds[0].to_blame == {"length": 1, NO_FEATURE: 1}
    assert to_blame({"a": 0.0, "b": 1.0}, {"a": 0.1, "b": 3.0}) == "a"
    assert to_blame({}, {}) is None


def test_examples_are_those_in_which_the_worse_response_earned_most() -> None:
    report = build([pair("cut", 1, worse) for worse in (0, 3, 2, 5, 1)], SUBJECT, "test", 1)

    assert [example.worse.reward for example in report.kinds[0].examples] == [5, 3, 2]


def test_a_requirement_needs_every_kind_and_every_reward() -> None:
    good, bad = [pair("cut", 1, 0)] * 30, [pair("padded", 0, 1)]

    assert build(good, SUBJECT, "t", 1, 0.95).requirement.met  # type: ignore[union-attr] # it is given
    failing = build([*good, *bad], SUBJECT, "t", 1, 0.5).requirement
    assert failing is not None
    assert (failing.met, failing.mean_is_below, failing.kinds_below) == (False, False, ["padded"])
    unscored = build([*good, pair("cut", 1, Failed("x"))], SUBJECT, "t", 1, 0.95).requirement
    assert unscored is not None
    assert (unscored.met, unscored.pairs_without_rewards) == (False, 1)


def test_small_differences_to_0_and_100_percent_are_visible() -> None:
    assert [percent(x) for x in (0.0, 0.004, 0.5, 0.996, 1.0, 1.158)] == [
        "0%", "0.4%", "50%", "99.6%", "100%", "116%",
    ]  # fmt: skip


# The page -------------------------------------------------------------------------------------------------------


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_escapes_every_text_and_loads_nothing() -> None:
    report = build(
        [pair("cut", 1, 2, **{"<f>": (1.0, 2.0)}), pair("cut", 1, Failed("<u>why</u>"))],
        SUBJECT,
        "<s>file</s>",
        1,
        0.9,
    )
    html = render_page(report)
    elements = _Elements()
    elements.feed(html)

    assert not {"script", "i-worse", "s", "u", "f", "img", "link", "iframe"} & {tag for tag, _ in elements.tags}
    assert not [attrs for _, attrs in elements.tags if {"src", "href", "onclick"} & attrs.keys()]
    assert "&lt;script&gt;good&lt;/script&gt;" in html
    assert "&lt;i&gt;worse&lt;/i&gt;" in html
    assert "&lt;u&gt;why&lt;/u&gt;" in html
    assert "prefers-color-scheme: dark" in html


def test_the_page_shows_where_a_response_is_cut_and_that_nothing_is_visible() -> None:
    texts = ["word " * 1_000, "\u200b" * 1_500, "\n" * 4_500 + "word"]
    pairs = [Pair(CASE, KINDS["cut"], text, Scored(1), Scored(0)) for text in texts]

    html = render_page(build(pairs, SUBJECT, "test", 1))

    assert "word  … (5000 characters)" in html
    assert "(1500 characters, none visible)" in html
    assert "(4504 characters, the first 2000 not visible)" in html


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n" * 20, "(20 characters, none visible)"),
        ("\n" * 20 + "word", "(24 characters, the first 10 not visible)"),
        ("word" + "\n" * 20, "word\n\n\n\n\n\n … (24 characters)"),
    ],
)
def test_a_text_is_called_invisible_only_if_all_of_it_is(text: str, expected: str) -> None:
    assert cut(text, 10) == expected


def test_page_and_table_name_the_kinds_that_fall_short() -> None:
    report = build([pair("cut", 1, 2), pair("padded", 1, 0)], SUBJECT, "t", 1, 0.95)

    for text in (render_page(report), render_table(report)):
        assert "cut is below 0.95: 0.000" in text
        assert "padded is below" not in text
