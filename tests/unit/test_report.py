"""The report: a self-contained page with every result, in which all texts are escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reward_evidence.evaluation.evaluation import read_evaluation
from reward_evidence.evaluation.store import find_evaluated
from reward_evidence.report.charts import panels
from reward_evidence.report.page import render
from reward_evidence.report.write import main, write_report
from tests.unit.evidence_run import (
    DEMO_NOTICE,
    SHARED_NOTICE,
    ScriptedSampler,
    Service,
    config,
    evaluated,
    make_evaluation_run,
    make_run,
    sampling_settings,
)

pytestmark = pytest.mark.slow

HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} & \u2028 \x00"


class Elements(HTMLParser):
    """Names and attributes of a page's elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated and reported run of three checkpoints."""
    path = make_run(tmp_path_factory.mktemp("runs") / "demo", steps=(0, 4, 8))
    evaluated(path)
    (path / "plots").mkdir()
    (path / "plots" / "left_over.png").write_bytes(b"of an earlier report")
    write_report(path)
    return path


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def test_the_page_refers_to_no_external_asset(page: str) -> None:
    elements = Elements(page)
    assert [script.get("src") for script in elements.all("script")] == [None]
    assert not elements.all("link")
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") for image in elements.all("img"))
    assert "http://" not in re.sub(r"http://127.0.0.1:8000", "", page)
    assert "https://" not in page


def test_the_policy_of_the_page_allows_its_script_and_no_other(page: str) -> None:
    (policy,) = [meta["content"] or "" for meta in Elements(page).all("meta") if meta.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    script = page[page.index("<script>") + len("<script>") : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert rules["script-src"] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")


def test_every_chart_has_an_alternative_text(page: str) -> None:
    alternatives = [image["alt"] or "" for image in Elements(page).all("img")]
    assert len(alternatives) >= 12
    assert all(("against" in text and "last" in text) or "All together" in text for text in alternatives)
    assert sum("Share of responses against" in text for text in alternatives) == 2


def test_inline_charts_contain_no_script_and_no_external_reference(page: str) -> None:
    for image in Elements(page).all("img"):
        svg = base64.b64decode((image["src"] or "").split(",", 1)[1]).decode()
        assert "<script" not in svg
        assert not re.search(r'href="(?!#)', svg)


def test_the_page_contains_notices_verbatim(page: str) -> None:
    assert DEMO_NOTICE in page
    assert SHARED_NOTICE in page


def test_the_page_contains_verdict_engine_settings_and_hashes(run: Path, page: str) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["verdict"]["headline"] in page
    assert "rollout engine: transformers (CPU), not vLLM" in page
    assert "openrlhf.cli.train_ppo_ray" in page
    for checkpoint in evaluation["checkpoints"]:
        assert checkpoint["weights_sha256"] in page


def test_charts_are_written_as_png_too(run: Path) -> None:
    names = {path.stem for path in (run / "plots").iterdir()}
    assert {"proxy_by_step", "gold_by_step", "gold_by_kl", "gold_by_proxy", "gold_change", "length"} <= names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (run / "plots").iterdir())


def test_charts_of_an_earlier_report_are_deleted(run: Path) -> None:
    assert not (run / "plots" / "left_over.png").exists()


def page_without_figures(run: Path) -> str:
    evaluation = read_evaluation(run)
    found = [find_evaluated(run / "evaluation", evaluation.checkpoints[i].step) for i in (0, -1)]
    first, last = (evaluated.responses for evaluated in found if evaluated)
    no_charts = dict.fromkeys(("drivers", "rewards", "query_types", "features", "length", "training"), ())
    return render(evaluation, no_charts, first, last, config(run))


def test_markup_in_responses_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "<b>run</b>", steps=(0, 2), n_prompts=12)
    sampler = ScriptedSampler(sampling_settings(), text=lambda prompt, step: HOSTILE)
    make_evaluation_run(run).run(lambda: sampler, Service())
    page = page_without_figures(run)
    elements = Elements(page)
    assert len(elements.all("script")) == 1
    assert page.count("</script>") == 1
    assert not elements.all("img")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert "<b>run</b>" not in page


def test_alpaca_eval_files_contain_one_output_per_prompt(run: Path) -> None:
    last, first = (json.loads((run / name).read_text()) for name in ("alpaca_eval.json", "alpaca_eval_first.json"))
    assert len(last) == len(first) == 64
    assert {"instruction", "output", "generator", "dataset"} == set(last[0])
    assert (last[0]["generator"], first[0]["generator"]) == ("demo-step-000008", "demo-step-000000")
    assert [row["instruction"] for row in last] == [row["instruction"] for row in first]
    assert all(isinstance(row["output"], str) for row in last)


def test_a_run_without_gold_and_without_divergence_has_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(0, 2), n_prompts=10)
    evaluation_run = make_evaluation_run(run, kl=False)
    evaluation_run.gold = False
    evaluation = evaluation_run.run(lambda: ScriptedSampler(sampling_settings(kl=False)), Service())
    page = page_without_figures(run)
    assert "Gold was not measured" in page
    assert "KL, nats" not in page
    names = [panel.name for found in panels(evaluation, []).values() for panel in found]
    assert not [name for name in names if "gold" in name or "kl" in name]


def test_a_single_checkpoint_has_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(0,), n_prompts=10)
    evaluated(run)
    assert "One checkpoint" in page_without_figures(run)


def test_the_report_states_the_number_of_samples(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(0, 2), n_prompts=10)
    evaluated(run, samples=3)
    assert "On 10 held-out prompts, 3 responses each" in page_without_figures(run)


def test_a_report_without_an_evaluation_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", steps=(0,))
    assert main(["--run-dir", str(run)]) == 1
    assert "glassbox evaluate --run-dir" in capsys.readouterr().err


def test_changed_responses_are_not_reported_with_the_previous_figures(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", steps=(0, 2), n_prompts=10)
    evaluated(made)
    with (made / "evaluation" / "000002.jsonl").open("a") as file:
        file.write("{}\n")
    assert main(["--run-dir", str(made)]) == 1
