"""`glassbox diff` with a service with test models: figures, files, errors, hostile texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reward_client.cli.main import main
from reward_client.diff.report import Report
from reward_client.diff.table import WIDTH
from reward_service.settings import Settings
from tests.api.test_several_golds import Service
from tests.command import exit_status
from tests.live import serving

SHORT, MIDDLE, LONG = "a b c d", "a b c d a b c d", "a b c d a b c d a b c d"
"""The longer, the more repeated: length and repetition order them in opposite ways."""
OPPOSITE = {"recipe": "li", "open_ended": ["repetition_penalty"], "closed_ended": ["repetition_penalty"]}


@pytest.fixture(scope="module")
def service_url() -> Iterator[str]:
    with serving(Settings()) as url:
        yield url


@pytest.fixture
def opposite(tmp_path: Path) -> Path:
    path = tmp_path / "opposite.json"
    path.write_text(json.dumps(OPPOSITE))
    return path


def write(folder: Path, *rows: Mapping[str, Any]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def samples(n_prompts: int = 4) -> list[dict[str, Any]]:
    return [
        {"prompt": f"prompt {i}", "response": text} for i in range(n_prompts) for text in (SHORT, MIDDLE, LONG)
    ]


def run(*argv: str | Path) -> int:
    return exit_status("diff", *argv)


def report_of(path: Path) -> Report:
    return Report.model_validate_json(path.read_text(encoding="utf-8"))


# Figures --------------------------------------------------------------------------------------------------------


def test_two_recipes_that_order_in_opposite_ways(
    service_url: str, opposite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path, *samples()), tmp_path / "r.json"

    status = run("--url", service_url, "--recipe", "li", "--recipe", opposite, source, "--json", out)
    report = report_of(out)
    of_all = report.agreement[0]
    printed = capsys.readouterr().out

    assert status == 0
    assert (report.compared, report.n_rows, report.n_prompts, report.n_single) == ("within_prompts", 12, 4, 0)
    assert (of_all.tau_b.value, of_all.tau_b.low, of_all.tau_b.high) == (-1.0, -1.0, -1.0)
    assert (of_all.ordered_differently.value, of_all.best_changes.value) == (1.0, 1.0)
    assert (report.a.name, report.b.given) == ("li", str(opposite))
    assert report.a.hash != report.b.hash
    assert {one.name for one in report.features} == {"length_incentive", "repetition_penalty"}
    assert sum(one.share.value or 0 for one in report.features) == pytest.approx(1.0)
    assert {(mover.rank_a, mover.rank_b) for mover in report.movers} == {(1.0, 3.0), (3.0, 1.0)}
    assert max(len(line) for line in printed.splitlines() if not line.startswith("wrote ")) <= WIDTH
    assert "-1.00 [-1.00, -1.00]" in printed


def test_the_gold_model_of_the_service_judges_both(service_url: str, opposite: Path, tmp_path: Path) -> None:
    """The gold model of the tests pays for length."""
    source, out = write(tmp_path, *samples()), tmp_path / "r.json"
    common = ("--url", service_url, "--recipe", "li", "--recipe", opposite, source, "--json", out)

    run(*common)
    [gold] = report_of(out).golds
    run(*common, "--no-gold")

    assert (gold.tau_a.value, gold.tau_b.value, gold.tau_difference.value) == (1.0, -1.0, -2.0)
    assert gold.best_difference.value is not None
    assert gold.best_difference.value < 0
    assert report_of(out).golds == []


def test_every_gold_model_of_the_service_judges_both(
    opposite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`b` is minus the gold reward of `a`."""
    source, out, page = write(tmp_path, *samples()), tmp_path / "r.json", tmp_path / "r.html"
    golds = Service("a,b", encoder="letters")
    with serving(golds.settings, gold_loader=golds.load) as url:
        run("--url", url, "--recipe", "li", "--recipe", opposite, source, "--json", out, "--html", page)

    assert [(one.model, one.tau_a.value) for one in report_of(out).golds] == [("a", 1.0), ("b", -1.0)]
    assert "mean gold of the best (4 prompts): b" in capsys.readouterr().out
    assert "<td>b</td><td>mean τ-b with gold within prompts</td><td>-1.00" in page.read_text()


def test_figures_are_by_query_type_and_repeatable(service_url: str, opposite: Path, tmp_path: Path) -> None:
    closed = [row | {"reference": "a", "query_type": "closed_ended"} for row in samples(2)]
    source, out = write(tmp_path, *samples(), *closed), tmp_path / "r.json"
    command = ("--url", service_url, "--recipe", "li", "--recipe", opposite, source, "--json", out)

    run(*command)
    first = report_of(out)
    run(*command)

    assert [(one.query_type, one.n_prompts) for one in first.agreement] == [
        (None, 6), ("open_ended", 4), ("closed_ended", 2),
    ]  # fmt: skip
    assert report_of(out) == first


def test_a_required_agreement_decides_the_exit_status(
    service_url: str, opposite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path, *samples())
    common = ("--url", service_url, source, "--recipe", "li", "--require-agreement", "0.9")

    assert run(*common, "--recipe", opposite) == 1
    assert "The required agreement of 0.9 is not met: mean τ-b is -1.000." in capsys.readouterr().out
    assert run(*common, "--recipe", "li") == 0
    assert "A and B are the same recipe." in capsys.readouterr().out


def test_prompts_with_one_response_are_compared_with_each_other_and_this_is_stated(
    service_url: str, opposite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"prompt {i}", "response": text} for i, text in enumerate((SHORT, MIDDLE, LONG))]
    source, out = write(tmp_path, *rows), tmp_path / "r.json"

    status = run(
        *("--url", service_url, "--recipe", "li", "--recipe", opposite, source, "--json", out),
        *("--html", tmp_path / "r.html", "--require-agreement", "0"),
    )
    report = report_of(out)
    (figures,) = report.agreement

    assert status == 1
    assert (report.compared, figures.query_type, figures.tau_b.value) == ("across_prompts", "open_ended", -1.0)
    assert (figures.tau_b.low, figures.best_changes.value) == (None, None)
    assert "Every prompt has one response" in capsys.readouterr().out
    assert "Every prompt has one response" in (tmp_path / "r.html").read_text()


def test_a_prompt_with_one_response_beside_others_is_left_out_and_counted(
    service_url: str, opposite: Path, tmp_path: Path
) -> None:
    source, out = write(tmp_path, *samples(2), {"prompt": "single", "response": SHORT}), tmp_path / "r.json"

    run("--url", service_url, "--recipe", "li", "--recipe", opposite, source, "--json", out)
    report = report_of(out)

    assert (report.n_prompts, report.n_single, report.agreement[0].n_prompts) == (3, 1, 2)


# Input ----------------------------------------------------------------------------------------------------------


def test_a_wrong_row_is_named_with_its_line_and_field(
    service_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path, *samples(1), {"prompt": "p"})

    assert run("--url", service_url, "--recipe", "li", "--recipe", "rer", source) == 1
    assert "in.jsonl, line 4: response: Field required" in capsys.readouterr().out


def test_a_batch_of_which_a_part_fails_gives_no_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The service takes two items at a time, so it answers the first parts of the batch."""
    rows = [*samples(2), {"prompt": "p", "response": "r", "query_type": "closed_ended"}]
    with serving(Settings(max_items=2)) as url:
        given = ("--recipe", "li", "--recipe", "rer", "--batch", "64", "--url", url)
        status = run(write(tmp_path, *rows), *given, "--json", tmp_path / "out.json")

    assert status == 1
    assert "line 7: reference" in capsys.readouterr().out
    assert not (tmp_path / "out.json").exists()


def test_with_keep_going_a_row_that_one_recipe_cannot_score_is_left_out_of_both(
    service_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The encoder of the tests answers NaN for this text, which `li` does not read."""
    source, out = write(tmp_path, *samples(2), {"prompt": "prompt 0", "response": "NAN"}), tmp_path / "r.json"
    common = ("--url", service_url, "--recipe", "li", "--recipe", "rer", source, "--no-gold")

    assert run(*common) == 1
    assert "line 7, response: query_relevance is not a finite number" in capsys.readouterr().out
    assert run(*common, "--keep-going", "--json", out) == 1
    report = report_of(out)
    assert (report.n_rows, report.n_errors) == (6, 1)
    assert "line 7: response: " in report.errors[0]


def test_the_output_of_score_is_an_input(service_url: str, opposite: Path, tmp_path: Path) -> None:
    source = write(tmp_path, *samples())
    main(["score", str(source), str(tmp_path / "scored.jsonl"), "--url", service_url, "--recipe", "li"], [])

    assert run("--url", service_url, "--recipe", "li", "--recipe", opposite, tmp_path / "scored.jsonl") == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.json", "[1]", "parameters of a recipe by name are required"),
        ("r.json", "{", "r.json cannot be read: "),
        ("r.json", '{"recipe": "li"}', "sets no parameter"),
        ("r.json", '{"recipe": 3, "words": "unicode"}', "recipe: the name of a recipe is required, not int"),
        ("r.yaml", "a: [", "r.yaml cannot be read: "),
        ("r.yaml", "colour: red", "recipe_overrides.colour"),
        ("missing.json", None, "missing.json cannot be read: No such file"),
        ("rex", None, "unknown recipe 'rex'"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_an_error(
    service_url: str,
    tmp_path: Path,
    name: str,
    content: str | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    recipe = tmp_path / name if "." in name else name

    assert run("--url", service_url, "--recipe", "li", "--recipe", recipe, write(tmp_path, *samples(1))) == 1
    assert message in capsys.readouterr().out


def test_two_recipes_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--recipe", "li", write(tmp_path, *samples(1))) == 1
    assert "--recipe is needed twice" in capsys.readouterr().out


def test_one_row_is_no_comparison(service_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--url", service_url, "--recipe", "li", "--recipe", "rer", write(tmp_path, samples(1)[0])) == 1
    assert "a comparison needs two to the same prompt" in capsys.readouterr().out


# The page -------------------------------------------------------------------------------------------------------


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_hostile_texts_are_escaped_and_the_page_stays_small(
    service_url: str, opposite: Path, tmp_path: Path
) -> None:
    texts = [
        "<script>alert(1)</script>",
        "</pre></details><img src=x onerror=alert(1)>",
        "\x00\x07\u202e reversed",
        "👩‍👩‍👧‍👦 " * 400,
        "'\"&<> " * 500,
        "z" + "\u0300" * 3_000,
        "\u200b" * 1_000,
        "\u200b" * 100 + "word",
    ]
    longest = {"prompt": "long", "response": "word " * 38_000}, {"prompt": "long", "response": "word"}
    rows = [{"prompt": f"<b>{i}</b>" * 500, "response": text} for i in range(15) for text in texts]
    page = tmp_path / "r.html"

    run(
        *("--url", service_url, "--recipe", "li", "--recipe", opposite, write(tmp_path, *rows, *longest)),
        *("--html", page, "--movers", "100"),
    )
    content = page.read_text(encoding="utf-8")
    elements = _Elements()
    elements.feed(content)

    assert page.stat().st_size < 5_000_000
    assert not {"script", "img", "link", "iframe", "b-"} & {tag for tag, _ in elements.tags}
    assert not [attrs for _, attrs in elements.tags if {"src", "href", "onerror"} & attrs.keys()]
    assert "\x00" not in content
    assert "&lt;script&gt;" in content
    assert "(104 characters, the first 90 not visible)" in content
    assert content.count("<svg") == 2


def test_the_number_of_movers_is_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--recipe", "li", "--recipe", "rer", write(tmp_path, *samples(1)), "--movers", "5000") == 1
    assert "--movers 5000 is more than 100" in capsys.readouterr().out
