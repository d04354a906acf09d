"""TRL's GRPO and RLOO trainers, and what is built on them: the service as a reward function.

    trl grpo … --reward_funcs reward_client.adapters.trl.glassbox
    GRPOTrainer(reward_funcs=[glassbox], …)
    GRPOTrainer(reward_funcs=[reward_function(recipe="rer"), reward_function(recipe="li")], …)

Settings are those of `AdapterSettings`. A completion that cannot be scored has the reward None, which TRL leaves
out of means and advantages; an error of the service raises, which stops the run. The features are columns of TRL's
table of completions and metrics, as `glassbox/NAME`.

TRL collects columns and metrics over all ranks, name by name, so every call must log the same names: None and NaN,
which TRL leaves out of its means, stand for a feature that no completion of the batch has.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import cache
from statistics import fmean
from typing import Any

from reward_client.adapters.samples import Sample, samples
from reward_client.adapters.scorer import Scored, Scorer
from reward_client.adapters.settings import AdapterSettings
from reward_client.errors import RewardError

Reward = Callable[..., Coroutine[Any, Any, list[float | None]]]
NAME = "glassbox"
MAX_UNSCORED_CALLS = 10
"""Calls in a row without any reward, after which the function raises: TRL would go on without learning."""


async def glassbox(prompts: Sequence[Any], completions: Sequence[Any], **given: Any) -> list[float | None]:
    """TRL's reward function, with the settings of the environment."""
    return await _reward(NAME, AdapterSettings.load())(prompts, completions, **given)


def reward_function(name: str | None = None, **settings: Any) -> Reward:
    """A reward function with these settings, the environment for others; for several recipes in one run.

    `name` is that of its metrics, by default `glassbox` or `glassbox_RECIPE`. Raises RewardError for a wrong
    setting.
    """
    loaded = AdapterSettings.load(**settings)
    return _reward(name or "_".join(filter(None, [NAME, loaded.recipe])), loaded)


@cache
def _reward(name: str, settings: AdapterSettings) -> Reward:
    call = _RewardFunction(name, Scorer(settings))

    async def reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        scored = await call.score(samples(settings, prompts, completions, columns))
        if log_extra is not None:
            for column, values in call.columns(scored).items():
                log_extra(column, values)
        if log_metric is not None:
            for metric, value in call.metrics(scored).items():
                log_metric(metric, value)
        return [one.reward for one in scored]

    reward.__name__ = reward.__qualname__ = name
    return reward


class _RewardFunction:
    """Scores batches, and names what is logged."""

    def __init__(self, name: str, scorer: Scorer) -> None:
        self._name = name
        self._scorer = scorer
        self._features: list[str] = []
        self._unscored_calls = 0

    async def score(self, batch: Sequence[Sample]) -> list[Scored]:
        scored = await self._scorer.score_async(batch)
        found = [one for one in scored if one.reward is not None]
        self._unscored_calls = 0 if found else self._unscored_calls + 1
        if self._unscored_calls == MAX_UNSCORED_CALLS:
            raise RewardError(f"no reward in {MAX_UNSCORED_CALLS} batches in a row: {scored[0].error}")
        if not self._features:
            found = found or await self._scorer.score_async([Sample("a", "a")])  # only for the names
            if found[0].reward is None:
                raise RewardError(
                    "neither the first batch nor a short text has a reward, so the names of the features, which "
                    f"all ranks must log alike, are unknown: {found[0].error}"
                )
            self._features = list(found[0].features)
        return scored

    def columns(self, scored: Sequence[Scored]) -> dict[str, list[Any]]:
        """By name, a value for each completion; None where it has none."""
        found: dict[str, list[Any]] = {
            f"{self._name}/{feature}": [one.features.get(feature) for one in scored] for feature in self._features
        }
        if self._scorer.settings.gold:
            found[f"{self._name}/gold_reward"] = [one.gold_reward for one in scored]
        return found | {f"{self._name}/error": [one.error for one in scored]}

    def metrics(self, scored: Sequence[Scored]) -> dict[str, float]:
        """By name, the mean over the completions that have a value; the share of those without a reward."""
        columns = self.columns(scored)
        errors = columns.pop(f"{self._name}/error")
        values = {name: [value for value in column if value is not None] for name, column in columns.items()}
        means = {name: fmean(found) if found else float("nan") for name, found in values.items()}
        return means | {f"{self._name}/unscored": fmean(error is not None for error in errors)}
