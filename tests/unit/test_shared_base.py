"""A gold model that was fitted on the base of the policy: a notice of the evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reward_client.wire import Item, ModelInfo, ScoreReply
from reward_evidence.evaluation.evaluation import Evaluation
from reward_evidence.evaluation.shared_base import gold_notices
from reward_runs.record import trained_policy
from tests.unit.evidence_run import (
    DEMO_NOTICE,
    ScriptedSampler,
    Service,
    info,
    make_evaluation_run,
    make_run,
    sampling_settings,
)

GOLD = ModelInfo(
    id="demo-gold-smollm2",
    revision="bbbb",
    device="cpu",
    notices=[DEMO_NOTICE],
    base="smollm2-135m-instruct",
)


@pytest.mark.parametrize(
    ("policy", "is_shared"),
    [
        ("smollm2-135m-instruct", True),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", True),
        ("/models/smollm2-135m-instruct/", True),
        ("Qwen/Qwen2.5-0.5B-Instruct", False),
        (None, False),
    ],
)
def test_the_base_is_compared_with_the_name_of_the_policy(policy: str | None, is_shared: bool) -> None:
    assert len(gold_notices(GOLD, policy)) == 1 + is_shared


def test_two_folders_are_compared_by_their_paths(tmp_path: Path) -> None:
    """Their last segments are not compared, unless one is a folder of another machine."""
    gold = GOLD.model_copy(update={"base": str(tmp_path / "gold" / "base")})
    (tmp_path / "gold" / "base").mkdir(parents=True)
    (tmp_path / "policy" / "base").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "gold")

    assert len(gold_notices(gold, str(tmp_path / "policy" / "base"))) == 1
    assert len(gold_notices(gold, str(tmp_path / "link" / "base"))) == 2
    assert len(gold_notices(gold, "owner/base")) == 2
    assert len(gold_notices(gold, "/of/the/trainer/base")) == 2


def test_the_policy_of_a_checkpoint_is_the_one_of_its_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=(0, 6))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "policy": "owner/base"}))
    copied = tmp_path / "checkpoints" / "000006"
    copied.mkdir(parents=True)

    assert trained_policy(str(run / "checkpoints" / "000006")) == "owner/base"
    assert trained_policy(str(copied)) == str(copied)
    assert trained_policy("owner/other") == "owner/other"


def test_a_gold_model_of_unknown_base_has_the_service_s_notices_only() -> None:
    gold = GOLD.model_copy(update={"base": None})

    assert gold_notices(gold, "smollm2-135m-instruct") == [DEMO_NOTICE]


class GoldService(Service):
    """A service whose gold model is `GOLD`."""

    def score(self, items: Sequence[Item], **options: Any) -> ScoreReply:
        reply = super().score(items, **options)
        return reply.model_copy(update={"models": reply.models.model_copy(update={"gold": GOLD.id})})


def evaluate(folder: Path, policy: str) -> Evaluation:
    run = make_run(folder, steps=(0, 6))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "policy": policy}))
    details = info(notices=()).model_copy(update={"gold": GOLD})
    evaluation = replace(make_evaluation_run(run), info=details)
    return evaluation.run(lambda: ScriptedSampler(sampling_settings()), GoldService(notices=(DEMO_NOTICE,)))


def test_the_verdict_of_a_run_is_qualified_by_the_policy_of_its_record(tmp_path: Path) -> None:
    ours = evaluate(tmp_path / "ours", "smollm2-135m-instruct")
    other = evaluate(tmp_path / "other", "Qwen/Qwen2.5-0.5B-Instruct")

    assert any("which is also the policy" in notice for notice in ours.notices)
    assert "shares its base with the policy" in ours.verdict.sentence
    assert not any("policy" in notice for notice in other.notices)
    assert "shares its base" not in other.verdict.sentence
