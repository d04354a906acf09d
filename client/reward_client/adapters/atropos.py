"""Atropos: a function of its reward registry, and a function that drops groups without a reward.

    from reward_client.adapters.atropos import drop_unscored      # importing the module registers "glassbox"

    self.reward = registry.create("glassbox")                     # in the environment
    scores = self.reward(completions, prompts=prompts, reference=references)

    async def postprocess_histories(self, trajectories):
        return drop_unscored(trajectories)

The registry turns an exception, and a None among the rewards, into zeros for the whole group. So a response
without a reward has the score NaN here, and the environment must not send its group to the trainer:
`drop_unscored` takes it out. Settings are environment variables, or arguments of `registry.create`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from reward_client.adapters.samples import Sample, column
from reward_client.adapters.scorer import Scored, Scorer
from reward_client.errors import RewardError

if TYPE_CHECKING:
    RewardFunction: Any = object
    registry: Any = None
else:
    try:
        from atroposlib.envs.reward_fns import RewardFunction, registry
    except ImportError:
        RewardFunction, registry = object, None

logger = logging.getLogger(__name__)


class Glassbox(RewardFunction):  # type: ignore[misc]
    """Rewards of a group of completions; NaN for one that has none."""

    def __init__(self, weight: float = 1.0, name: str = "glassbox", **settings: Any) -> None:
        super().__init__(weight=weight, name=name)
        self._scorer = Scorer(**settings)
        self._scored: Sequence[Scored] = ()

    def compute(
        self,
        completions: Sequence[Any],
        prompts: Any = None,
        reference: Any = None,
        query_type: Any = None,
        **_: Any,
    ) -> list[float]:
        """The reward of each completion, which is text or messages; NaN, and a log line, for one without."""
        n = len(completions)
        try:
            self._scored = self._scorer.score(_samples(completions, prompts, reference, query_type))
        except (RewardError, ValueError) as exc:
            self._scored = [Scored(None, str(exc))] * n
        for number, one in enumerate(self._scored):
            if one.error is not None:
                logger.warning("completion %d of %d has no reward: %s", number, n, one.error)
        return [math.nan if one.reward is None else one.reward for one in self._scored]

    def log_metrics(self, raw_rewards: list[float], weighted_rewards: list[float]) -> None:
        """Log the rewards and the features that apply, averaged over the completions that have them."""
        known = [i for i, reward in enumerate(raw_rewards) if math.isfinite(reward)]
        if not known or not self.wandb_logger:
            return
        super().log_metrics([raw_rewards[i] for i in known], [weighted_rewards[i] for i in known])
        features: dict[str, list[float]] = {}
        for one in self._scored:
            for name, value in one.applicable_features().items():
                features.setdefault(name, []).append(value)
        self.wandb_logger.log({f"{self.name}/{name}": fmean(values) for name, values in features.items()})


if registry is not None:
    registry.register(Glassbox, name="glassbox")


def drop_unscored(trajectories: Any) -> Any:
    """`trajectories` of `postprocess_histories` without the groups in which a score is not a finite number.

    They are one group or a list of them; None when no group is left, of which Atropos sends nothing.
    """
    if isinstance(trajectories, list):
        return [group for group in trajectories if _is_scored(group)] or None
    return trajectories if _is_scored(trajectories) else None


def _is_scored(group: Mapping[str, Any] | None) -> bool:
    return group is not None and all(map(math.isfinite, group["scores"]))


def _samples(completions: Sequence[Any], prompts: Any, reference: Any, query_type: Any) -> list[Sample]:
    """Samples of a group; without `prompts` the turns before the last one of each completion are its prompt."""
    n = len(completions)
    replies = [one.get("message", one) if isinstance(one, Mapping) else one for one in completions]
    if prompts is None:
        prompts = [one[:-1] if isinstance(one, (list, tuple)) else None for one in replies]
        replies = [one[-1:] if isinstance(one, (list, tuple)) else one for one in replies]
    columns = (
        column(prompts, n, "prompts"),
        column(reference, n, "reference"),
        column(query_type, n, "query_type"),
    )
    return [Sample(p, c, r, q) for c, p, r, q in zip(replies, *columns, strict=True)]
