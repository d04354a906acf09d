"""verl: a reward manager, which sees the prompt, and a reward function, which does not.

    reward.reward_manager.source=importlib
    reward.reward_manager.module.path=pkg://reward_client.adapters.verl
    reward.reward_manager.name=Glassbox                   its settings: +reward.reward_kwargs.url=…

    reward.custom_reward_function.path=pkg://reward_client.adapters.verl
    reward.custom_reward_function.name=compute_score      +reward.custom_reward_function.reward_kwargs.url=…

verl cannot leave a sample out, so each failure raises and verl ends the run. Its manager `rate_limited` turns an
exception into the reward 0.0; there a failed sample gets the score None, on which verl ends the run too.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from reward_client.adapters.samples import Sample, label_of
from reward_client.adapters.scorer import Scored, Scorer, rewards, scorer_of
from reward_client.adapters.settings import AdapterSettings
from reward_client.errors import RewardError

try:
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase as _ManagerBase
except ModuleNotFoundError:  # the module can be imported without verl
    _ManagerBase = object

_log = logging.getLogger(__name__)
_FAILURE = "verl's manager rate_limited would turn this failure into the reward 0.0, so the score is None: %s"
_WARNING = (
    "verl runs this reward function under its manager rate_limited, which turns failures and time-outs into the "
    "reward 0.0 and scores one sample at a time by default. Use reward.reward_manager.name=naive, or the manager "
    "Glassbox of this module. With rate_limited, keep deadline_s (%g) below reward.timeout (300)"
)


class VerlSettings(AdapterSettings):
    """Settings of an adapter, with a deadline below the time limit of `rate_limited`."""

    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 240.0


async def compute_score(
    data_source: str,  # noqa: ARG001 - verl passes all of these by name
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,  # noqa: ARG001
    reward_model_tokenizer: Any = None,  # noqa: ARG001
    **settings: Any,
) -> dict[str, float | None]:
    """verl's reward function: the reward as `score`, and the features. `settings` are `reward_kwargs`.

    Raises RewardError.
    """
    row = extra_info or {}
    try:
        scorer = scorer_of(_load(settings))
        if _under_rate_limited():
            _warn_of_rate_limited(scorer.settings.deadline_s)
        return await _score(scorer, _prompt(row, scorer.settings), solution_str, ground_truth, row)
    except Exception as exc:
        if not _under_rate_limited():
            raise
        _log.error(_FAILURE, exc)
        return {"score": None}


class Glassbox(_ManagerBase):  # type: ignore[misc]  # verl publishes no types
    """verl's reward manager. Its settings are `reward.reward_kwargs`."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
        super().__init__(config=config, tokenizer=tokenizer, compute_score=compute_score)
        self._scorer = scorer_of(_load(config.reward.get("reward_kwargs") or {}))

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Reward and features of the last sequence in `data`. Raises RewardError."""
        sequence = data[-1:][0]
        row = sequence.non_tensor_batch
        if row.get("raw_prompt") is None:
            raise RewardError("verl passed no raw_prompt, the messages of the prompt; its data set must return it")
        tokens = sequence.batch["responses"]
        n_tokens = int(sequence.batch["attention_mask"][-len(tokens) :].sum())
        response = self.tokenizer.decode(tokens[:n_tokens], skip_special_tokens=True)
        truth = (row.get("reward_model") or {}).get("ground_truth")
        found = await _score(self._scorer, row["raw_prompt"], response, truth, row.get("extra_info") or {})
        return {"reward_score": found["score"], "reward_extra_info": found}


async def _score(
    scorer: Scorer, prompt: Any, response: str, truth: Any, row: Mapping[str, Any]
) -> dict[str, float | None]:
    """The values to log, with the same names for every sample of a recipe: verl reads the names of one sample."""
    sample = Sample(prompt, response, *label_of(scorer.settings, row, truth))
    scored: list[Scored] = await scorer.score_async([sample])
    features = {f"glassbox/{name}": value for name, value in scored[0].all_features().items()}
    return {"score": rewards(scored)[0], **features}


def _prompt(row: Mapping[str, Any], settings: AdapterSettings) -> Any:
    """The prompt in a row's `extra_info`. Raises RewardError when there is none: no other column stands for it."""
    name = settings.prompt_column
    if row.get(name) is None:
        raise RewardError(
            f"extra_info has no {name!r}: a reward function of verl does not see the prompt. Add its text or "
            f"messages to extra_info under {name!r}, name another key with reward_kwargs.prompt_column, or use "
            "the manager Glassbox of this module, which sees the prompt"
        )
    return row[name]


def _load(given: Mapping[str, Any]) -> VerlSettings:
    """The settings; lists of the configuration library become lists of Python."""
    return VerlSettings.load(**{name: _plain(value) for name, value in given.items()})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _under_rate_limited() -> bool:
    """Whether this process has made a manager `rate_limited`; verl passes the function nothing to tell it by."""
    module = sys.modules.get("verl.experimental.reward_loop.reward_manager.limited")
    manager = getattr(module, "RateLimitedRewardManager", None)
    return bool(getattr(manager, "_class_initialized", False))


@cache
def _warn_of_rate_limited(deadline_s: float) -> None:
    """Warn once."""
    _log.warning(_WARNING, deadline_s)
