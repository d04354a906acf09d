"""Responses in AlpacaEval's `model_outputs` format: a JSON list of `instruction`, `output`, `generator`.

    alpaca_eval --model_outputs runs/NAME/alpaca_eval.json --reference_outputs runs/NAME/alpaca_eval_first.json

compares the last checkpoint with the first, by whatever annotator AlpacaEval is set up with. The prompts are the
run's held-out prompts, not AlpacaEval's own set, so its leaderboard does not apply.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from reward_evidence.evaluation.store import EvaluatedResponse

__all__ = ["model_outputs"]


def model_outputs(responses: Sequence[EvaluatedResponse], generator: str, dataset: str) -> str:
    """Return the file's text: the first sample of each prompt, because AlpacaEval takes one output a prompt.

    Args:
        responses: of one checkpoint.
        generator: name of the model, `RUN-step-000008` for instance.
        dataset: where the prompts come from.
    """
    rows = [
        {
            "instruction": response.prompt,
            "output": response.response,
            "generator": generator,
            "dataset": dataset,
        }
        for response in responses
        if response.sample == 0
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
