"""An evaluation with several gold models: the primary one is judged as alone, the others are shown beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_client.wire import Item, ModelInfo, ScoreReply
from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.report.write import write_report
from reward_evidence.statistics.golds import gold_agreement
from reward_evidence.statistics.monotonicity import Verdict
from reward_runs.errors import EvaluationError
from tests.unit.evidence_run import (
    ScriptedSampler,
    Service,
    evaluated,
    info,
    make_evaluation_run,
    make_run,
    sampling_settings,
    unit_noise,
)

FALLING, NOISE = "/models/falling", "<noise>"
FALLING_NOTICE = "falling is a demo model, and no independent evidence"


@dataclass
class SeveralService(Service):
    """The primary gold reward of `Service`, one that is minus it, and one that is noise."""

    notices: tuple[str, ...] = (FALLING_NOTICE,)
    noise_revision: str = "dddd"
    primary: str = "demo-gold"

    def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        reply = super().score(items, **options)
        results = [
            result.model_copy(
                update={
                    "golds": {
                        "demo-gold": result.gold_reward,
                        FALLING: -float(result.gold_reward or 0),
                        NOISE: unit_noise(result.id, options["step"], "noise"),
                    }
                }
            )
            for result in reply.results
        ]
        golds = {"demo-gold": "bbbb", FALLING: "cccc", NOISE: self.noise_revision}
        golds = {self.primary: golds.pop(self.primary), **golds}
        return reply.model_copy(
            update={"results": results, "models": reply.models.model_copy(update={"golds": golds})}
        )


def evaluate_several(run: Path, service: Service | None = None) -> Evaluation:
    details = info(notices=())
    golds = [
        ModelInfo(id="demo-gold", revision="bbbb", device="cpu"),
        ModelInfo(id=FALLING, revision="cccc", device="cpu", notices=[FALLING_NOTICE]),
        ModelInfo(id=NOISE, revision="dddd", device="cpu"),
    ]
    evaluation_run = replace(make_evaluation_run(run), info=details.model_copy(update={"golds": golds}))
    return evaluation_run.run(lambda: ScriptedSampler(sampling_settings()), service or SeveralService())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("golds") / "run", steps=(0, 6, 12))
    evaluate_several(run)
    return run


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Evaluation:
    return Evaluation.model_validate_json((run / "evaluation.json").read_text())


def test_the_primary_one_is_judged_as_without_the_others(evaluation: Evaluation, tmp_path: Path) -> None:
    alone = evaluated(make_run(tmp_path / "run", steps=(0, 6, 12)), Service(notices=()))

    assert evaluation.trend == alone.trend
    assert evaluation.checkpoints == alone.checkpoints
    assert evaluation.verdict.outcome is Verdict.ROSE
    assert alone.golds is None
    assert "primary gold model" not in alone.verdict.sentence


def test_notices_of_the_others_do_not_qualify_the_verdict(evaluation: Evaluation) -> None:
    assert not evaluation.verdict.headline.startswith("The demo gold reward")
    assert not any("demo" in sentence for sentence in evaluation.verdict.qualifications)
    assert FALLING_NOTICE not in evaluation.notices
    assert evaluation.service["golds"][1]["notices"] == [FALLING_NOTICE]


def test_the_verdict_says_what_it_rests_on_and_the_findings_have_the_others(evaluation: Evaluation) -> None:
    assert "rests on the primary gold model alone, demo-gold" in evaluation.verdict.sentence
    assert any(
        f"The gold model {FALLING}, beside the primary one: fell" in finding
        for finding in evaluation.verdict.findings
    )


def test_each_gold_model_has_means_and_changes(evaluation: Evaluation) -> None:
    assert evaluation.golds is not None
    primary, falling, _ = evaluation.golds.models

    assert [model.id for model in evaluation.golds.models] == ["demo-gold", FALLING, NOISE]
    assert primary.since_first == evaluation.trend.gold_since_first
    assert [mean.mean for mean in falling.means] == pytest.approx([-mean.mean for mean in primary.means])
    assert falling.since_first[-1].verdict is Verdict.FELL


def test_agreement_is_that_of_the_changes_by_prompt(evaluation: Evaluation) -> None:
    assert evaluation.golds is not None
    opposite, with_noise, _ = evaluation.golds.agreement

    assert opposite.same_direction.rate == 0
    assert opposite.rho == pytest.approx(-1)
    assert with_noise.low is not None
    assert with_noise.high is not None
    assert with_noise.low < 0 < with_noise.high


def test_the_page_shows_all_of_them_and_their_notices(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")

    assert 'href="#golds"' in html
    assert "demo-gold (primary)" in html
    assert "gold demo-gold (primary of 3)" in html
    assert FALLING_NOTICE in html
    assert "&lt;noise&gt;" in html
    assert NOISE not in html
    assert (run / "plots" / "gold_2_by_step.png").is_file()


def test_one_checkpoint_has_no_changes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(0,))
    evaluation = evaluate_several(run)

    assert evaluation.golds is not None
    assert evaluation.golds.agreement == []
    assert "demo-gold (primary)" in write_report(run).read_text(encoding="utf-8")


def test_a_gold_model_that_changed_since_the_service_was_asked_is_an_error(tmp_path: Path) -> None:
    """Otherwise scores of two models would be compared, or the settings would name another model."""
    with pytest.raises(EvaluationError, match="the service changed its gold models, or one was loading"):
        evaluate_several(make_run(tmp_path / "run", steps=(0,)), SeveralService(noise_revision="eeee"))


def test_another_primary_gold_model_is_an_error(tmp_path: Path) -> None:
    """The models are the same; which one judges is not."""
    with pytest.raises(EvaluationError, match="the service changed its gold models"):
        evaluate_several(make_run(tmp_path / "run", steps=(0,)), SeveralService(primary=FALLING))


def test_a_single_gold_model_that_changed_is_an_error(tmp_path: Path) -> None:
    run = make_evaluation_run(make_run(tmp_path / "run", steps=(0,)))
    assert run.info.gold is not None
    other = run.info.model_copy(update={"gold": run.info.gold.model_copy(update={"revision": "other"})})

    with pytest.raises(EvaluationError, match="the service changed its gold model, or one was loading"):
        replace(run, info=other).run(lambda: ScriptedSampler(sampling_settings()), Service())


def test_another_gold_model_beside_the_primary_one_is_evaluated_again(run: Path) -> None:
    service = Service()

    make_evaluation_run(run).run(lambda: ScriptedSampler(sampling_settings()), service)

    assert service.n_requests > 0
    evaluate_several(run)


def test_lines_of_one_gold_model_have_nothing_new(tmp_path: Path) -> None:
    """So an evaluation that an earlier release began can be continued, and is read by it."""
    run = make_run(tmp_path / "run", steps=(0, 2))
    evaluated(run)

    line = json.loads((run / "evaluation" / "000002.jsonl").read_text().splitlines()[0])
    record = json.loads((run / "evaluation" / "000002.json").read_text())
    assert "golds" not in line
    assert "golds" not in record["settings"]


def test_models_that_see_no_change_have_no_correlation() -> None:
    found = gold_agreement("a", "b", np.zeros(10), np.arange(10.0))

    assert (found.rho, found.low, found.high) == (None, None, None)
    assert found.same_direction.rate == 0.5


def test_the_interval_of_the_agreement_has_its_level() -> None:
    """Over made-up models with a known ρ of about 0.5, 95 % intervals contain it mostly."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(40):
        common, a, b = rng.normal(size=(3, 60))
        found = gold_agreement("a", "b", common + a, common + b)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.483 <= found.high  # Spearman's ρ of a bivariate normal with r = 0.5

    assert hits >= 35
