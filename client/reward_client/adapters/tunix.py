"""Tunix: `reward_functions: ["reward_client.adapters.tunix"]` in its configuration.

Tunix takes every public function that a module defines as a reward function and adds their values, so this module
defines one. A batch has one call. Tunix counts None and NaN as 0, so a sample without a reward raises RewardError.
"""

from __future__ import annotations

from typing import Any

from reward_client.adapters import samples as _samples
from reward_client.adapters import scorer as _scores
from reward_client.adapters.settings import AdapterSettings


def glassbox(prompts: Any, completions: Any, **columns: Any) -> list[float]:
    """The rewards of a batch. Raises RewardError when a sample has none.

    A prompt column of the data replaces `prompts`, which may have the markers of a chat template. The special
    tokens at the end of a completion, which Tunix keeps when it samples with vLLM, are removed.
    """
    settings = AdapterSettings.load()
    prompts = _samples.prompts_of(settings, prompts, columns)
    responses = [_samples.without_end_tokens(text) for text in completions]
    batch = _samples.samples(settings, prompts, responses, columns)
    return _scores.rewards(_scores.scorer_of(settings).score(batch))
