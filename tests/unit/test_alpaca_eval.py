"""AlpacaEval's format has one output per prompt."""

from __future__ import annotations

import json

from reward_evidence.report.write import model_outputs
from tests.unit.test_summary import response


def test_only_the_first_sample_of_a_prompt_is_exported() -> None:
    rows = [response("a", 0.0, response="Ja – «so»."), response("a", 1.0, sample=1), response("b", 0.0)]
    outputs = json.loads(model_outputs(rows, "run-step-000008", "run-heldout"))
    assert len(outputs) == 2
    assert outputs[0] == {
        "instruction": "Why?",
        "output": "Ja – «so».",
        "generator": "run-step-000008",
        "dataset": "run-heldout",
    }
