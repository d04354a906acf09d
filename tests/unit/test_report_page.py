"""The page of a report: what it contains for a run of any size, and how it is read without a script."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from reward_evidence.evaluation.evaluation import Evaluation, read_evaluation
from reward_evidence.evaluation.store import EvaluatedResponse, find_evaluated
from reward_evidence.report.browser import fitting, orders, prompt_rows, spaced
from reward_evidence.report.charts import Line, Panel
from reward_evidence.report.distribution_chart import distribution_panels
from reward_evidence.report.formatting import interval
from reward_evidence.report.page import MAX_PAGE_BYTES, render
from reward_evidence.report.plots import Drawing
from reward_evidence.report.templating import MAX_TEXT_CHARS
from reward_runs.record import RunRecord
from tests.unit.evidence_run import config, evaluated, evaluated_response, make_run
from tests.unit.test_report import Elements

NO_CHARTS: dict[str, tuple[Drawing, ...]] = dict.fromkeys(
    ("drivers", "rewards", "query_types", "features", "length", "training", "distributions"), ()
)


def responses(n: int, *, gold: float = 0.0, text: str = "Because of the rain.") -> list[EvaluatedResponse]:
    return [
        evaluated_response(
            f"p{i:05d}", {"relevance": 0.5}, gold=gold + i / 1000, response=text, prompt=f"Why {i}?"
        )
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_run(tmp_path_factory.mktemp("runs") / "demo", steps=(0, 4, 8), n_prompts=20)
    evaluated(path, samples=2)
    return path


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Evaluation:
    return read_evaluation(run)


@pytest.fixture(scope="module")
def html(run: Path, evaluation: Evaluation) -> str:
    found = [find_evaluated(run / "evaluation", step) for step in (0, 8)]
    first, last = (one.responses for one in found if one)
    return render(evaluation, NO_CHARTS, first, last, config(run))


def samples(html: str) -> list[dict[str, str | None]]:
    return [attributes for attributes in Elements(html).all("details") if "data-index" in attributes]


# -- contents


def test_every_line_of_the_contents_leads_to_a_section(html: str) -> None:
    elements = Elements(html)
    ids = {attributes.get("id") for _, attributes in elements.found}
    targets = [link["href"] or "" for link in elements.all("a")]

    assert {"#drivers", "#responses", "#settings", "#findings"} <= set(targets)
    assert [target for target in targets if target.removeprefix("#") not in ids] == []


def test_sections_that_a_run_does_not_have_are_not_in_the_contents(html: str) -> None:
    assert "#training" not in [link["href"] for link in Elements(html).all("a")]


def test_the_page_states_the_hash_of_the_recipe_with_its_overrides(html: str, evaluation: Evaluation) -> None:
    with_overrides = evaluation.service["recipe"]["hash"]

    assert f"recipe rer {with_overrides} (with max_response_tokens 128)" in html
    assert "recipe_hash (without the overrides)" in html


@pytest.mark.parametrize(
    ("n_steps", "changes", "expected"),
    [
        (12, {}, "trained on 48 of 200 prompts"),
        (5, {}, "trained on 20 of 200 prompts"),
        (12, {"n_training_prompts": 30}, "trained on 30 of 30 prompts"),
        (5, {"n_training_prompts": 30}, "trained on at most 20 of 30 prompts"),
        (12, {"prompts_per_step": None}, ""),
    ],
)
def test_the_record_states_how_many_prompts_were_trained_on(
    n_steps: int, changes: dict[str, Any], expected: str
) -> None:
    content = {"recipe": "rer", "max_new_tokens": 8, "steps": 12, "prompts_per_step": 4, "n_training_prompts": 200}

    assert RunRecord.model_validate(content | changes).training_prompts(n_steps) == expected


def test_three_checkpoints_have_no_rank_correlation(html: str, evaluation: Evaluation) -> None:
    assert evaluation.trend.rank_correlation is None
    assert "No rank correlation of proxy and gold: 3 checkpoints, 4 are needed." in html


def test_four_checkpoints_have_one(tmp_path: Path) -> None:
    made = evaluated(make_run(tmp_path / "run", steps=(0, 2, 4, 6), n_prompts=10))

    assert made.trend.rank_correlation is not None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.004, 0.2, "+0.004 to +0.200"),
        (-0.2, -0.004, "−0.200 to −0.004"),
        (0.0, 0.2, "0.00 to +0.20"),
        (0.02, 0.2, "+0.020 to +0.200"),
    ],
)
def test_a_bound_near_zero_is_not_shown_as_zero(low: float, high: float, expected: str) -> None:
    assert interval(low, high, with_sign=True) == expected


# -- the list of responses


def test_all_samples_of_all_prompts_are_on_the_page(html: str) -> None:
    assert len(samples(html)) == 20
    assert "All 20 prompts with all samples." in html
    list_of_samples = html[html.index('<div id="samples">') :]
    assert list_of_samples.count('<div class="response">') == 20 * 2 * 2


def test_prompts_carry_what_they_are_searched_and_ordered_by(html: str) -> None:
    for attributes in samples(html):
        assert attributes["data-type"] in {"open_ended", "closed_ended"}
        assert all(
            float(attributes[f"data-{name}"] or "nan") == pytest.approx(0, abs=99) for name in ("gold", "proxy")
        )


def test_the_controls_are_hidden_where_no_script_runs(html: str) -> None:
    (form,) = Elements(html).all("form")

    assert "hidden" in form


def test_a_change_is_that_of_the_mean_over_samples() -> None:
    first = [evaluated_response("a", {"x": 1.0}, sample=i, gold=g) for i, g in enumerate((0.0, 1.0))]
    last = [evaluated_response("a", {"x": 1.0}, sample=i, gold=g) for i, g in enumerate((1.0, 3.0))]
    (row,) = prompt_rows(first, last)

    assert row.gold_change == 1.5
    assert len(row.pairs) == 2


def test_prompts_cannot_be_ordered_by_a_reward_that_was_not_measured() -> None:
    rows = prompt_rows([evaluated_response("a", {"x": 1.0}, gold=None)], [evaluated_response("a", {"x": 2.0})])

    assert set(orders(rows)) == {"proxy", "words"}


def test_evenly_spaced_prompts_are_chosen_where_not_all_fit() -> None:
    assert spaced(3, 11) == [0, 5, 10]
    assert fitting([10] * 100, 55) == [0, 24, 49, 74, 99]
    assert fitting([10] * 100, 5) == []
    assert fitting([], 5) == []


# -- size


@pytest.mark.parametrize(
    ("n", "text"),
    [(2_400, "word " * 60), (400, "<&'\"> " * 800), (40, "\u4e2d" * 5_000)],
    ids=["many", "long and escaped", "wide"],
)
def test_a_page_has_a_limit_of_size(evaluation: Evaluation, run: Path, n: int, text: str) -> None:
    first, last = responses(n, text=text), responses(n, gold=1.0, text=text)
    html = render(evaluation, NO_CHARTS, first, last, config(run))

    assert len(html.encode()) <= MAX_PAGE_BYTES
    assert 0 < len(samples(html)) <= n
    assert len(text) < MAX_TEXT_CHARS or "more characters)" in html
    if n > len(samples(html)):
        assert f"{len(samples(html)):,} of {n:,} prompts, evenly spaced in the prompts file" in html


def test_charts_beyond_their_limit_are_counted(evaluation: Evaluation, run: Path) -> None:
    panel = Panel("x", "X", "step", "y", [Line("mean", "proxy", [0, 1], [0.0, 1.0])])
    drawing = Drawing(panel, "<svg>" + "x" * 150_000 + "</svg>", b"")
    html = render(
        evaluation, NO_CHARTS | {"features": (drawing,) * 40}, responses(4), responses(4, gold=1.0), config(run)
    )

    assert len(html.encode()) <= MAX_PAGE_BYTES
    assert len(Elements(html).all("img")) == 13
    assert "27 charts are not on this page" in html


def test_a_long_run_has_a_table_of_spaced_checkpoints(evaluation: Evaluation, run: Path) -> None:
    many = [evaluation.checkpoints[0].model_copy(update={"step": step}) for step in range(1_000)]
    long_run = evaluation.model_copy(
        update={"checkpoints": many, "hashes": {str(i): "0" * 64 for i in range(1_000)}}
    )
    html = render(long_run, NO_CHARTS, responses(4), responses(4, gold=1.0), config(run))

    assert "100 of 1000 checkpoints: the first, the last, and evenly spaced ones." in html
    assert "800 more in evaluation.json" in html
    assert "<td>999</td>" in html


# -- distributions


def test_the_histograms_contain_every_response() -> None:
    proxy, gold = distribution_panels(responses(30), responses(30, gold=1.0), (0, 8))

    for panel in (proxy, gold):
        assert [sum(shares) for shares in panel.shares] == pytest.approx([1, 1])
        assert len(panel.edges) == len(panel.shares[0]) + 1
    assert gold.means[1] - gold.means[0] == pytest.approx(1)


def test_equal_rewards_have_a_histogram() -> None:
    flat = [evaluated_response(str(i), {"x": 0.5}) for i in range(3)]
    proxy, _ = distribution_panels(flat, flat, (0, 8))

    assert sum(proxy.shares[0]) == pytest.approx(1)


def test_gold_that_was_not_measured_has_no_histogram() -> None:
    without = [evaluated_response("a", {"x": 0.5}, gold=None)]

    assert [panel.role for panel in distribution_panels(without, without, (0, 8))] == ["proxy"]
    assert distribution_panels(without, without, (0, 0)) == []


def test_the_text_of_a_response_is_not_markup(run: Path, evaluation: Evaluation) -> None:
    hostile = "</details></div><script>alert(1)</script>\u202e<b onclick=x>"
    html = render(evaluation, NO_CHARTS, responses(4, text=hostile), responses(4, text=hostile), config(run))
    elements = Elements(html)

    assert len(elements.all("script")) == 1
    assert [a for _, a in elements.found if any(name.startswith("on") for name in a)] == []
    assert len(re.findall("<details", html)) == len(re.findall("</details>", html))
    assert json.dumps(hostile) not in html
