"""Responses in AlpacaEval's `model_outputs` format: a JSON list of `instruction`, `output`, `generator`.

    alpaca_eval --model_outputs runs/NAME/alpaca_eval.json --reference_outputs runs/NAME/alpaca_eval_first.json

compares the last checkpoint with the first, with the annotator that AlpacaEval is configured with. The prompts are
those of the evaluation, not AlpacaEval's set, so the results are not comparable with its leaderboard.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from reward_evidence.evaluation.store import EvaluatedResponse


def model_outputs(responses: Sequence[EvaluatedResponse], generator: str, dataset: str) -> str:
    """Return the text of the file: the first sample of each prompt, because AlpacaEval uses one output per prompt.

    Args:
        responses: the responses of one checkpoint.
        generator: name of the model, for instance `RUN-step-000008`.
        dataset: origin of the prompts.
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
