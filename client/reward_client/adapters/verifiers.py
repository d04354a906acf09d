"""verifiers 0.4, and prime-rl on top of it: a reward function that the TOML of a run names.

    [env.taskset.task.rewards]
    glassbox = { fn = "reward_client.adapters.verifiers:glassbox", weight = 1.0 }

Settings are environment variables (`settings.py`). The prompt, the reference and the query type are fields of the
task's data, named by GLASSBOX_PROMPT_COLUMN and so on; without a field of the reference's name, `answer` is used.
The last reply of the rollout is scored. The features that apply become metrics of the trace, `glassbox/NAME`.

A failure raises: verifiers records it as an error of the trace, whose reward is then null.
"""

from __future__ import annotations

from typing import Any

from reward_client.adapters.samples import Sample, label_of
from reward_client.adapters.scorer import rewards, scorer_of
from reward_client.adapters.settings import AdapterSettings

_ANSWER = "answer"
"""The field for the reference in most tasks of verifiers."""


async def glassbox(task: Any, trace: Any) -> float:
    """The reward of the last reply in `trace`. Raises RewardError."""
    scorer = scorer_of(AdapterSettings.load())
    scored = await scorer.score_async([_sample(task.model_dump(mode="json"), trace.last_reply, scorer.settings)])
    reward = rewards(scored)[0]
    trace.record_metrics({f"glassbox/{name}": value for name, value in scored[0].applicable_features().items()})
    return reward


def _sample(row: dict[str, Any], response: str, settings: AdapterSettings) -> Sample:
    prompt, system = row.get(settings.prompt_column), row.get("system_prompt")
    if system:
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        prompt = [{"role": "system", "content": system}, *(turns or [])]
    return Sample(prompt, response, *label_of(settings, row, row.get(_ANSWER)))
