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
from typing import TYPE_CHECKING, Any

from reward_client.adapters.samples import Sample, column
from reward_client.adapters.scorer import Scorer
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

    def __init__(self, weight: float = 1.0, name: str | None = None, **settings: Any) -> None:
        super().__init__(weight=weight, name=name)
        self._scorer = Scorer(**settings)

    @property
    def name(self) -> str:
        """The name in logs."""
        return str(self._name or "glassbox")

    def compute(
        self,
        completions: Sequence[Any],
        prompts: Any = None,
        reference: Any = None,
        query_type: Any = None,
        **_: Any,
    ) -> list[float]:
        """The reward of each completion, which is text or messages; NaN, and a log line, for one without."""
        try:
            scored = self._scorer.score(_samples(completions, prompts, reference, query_type))
        except (RewardError, ValueError) as exc:
            logger.warning("glassbox: no rewards for a group of %d completions: %s", len(completions), exc)
            return [math.nan] * len(completions)
        for number, one in enumerate(scored):
            if one.error is not None:
                logger.warning("glassbox: no reward for completion %d of %d: %s", number, len(scored), one.error)
        return [math.nan if one.reward is None else one.reward for one in scored]


if registry is not None:
    registry.register(Glassbox, name="glassbox")


def drop_unscored(trajectories: Any) -> Any:
    """`trajectories` of `postprocess_histories` without the groups in which a score is not a finite number.

    None, one group or a list of them; a single group that is dropped is None, which Atropos does not send.
    """
    if isinstance(trajectories, list):
        return [group for group in trajectories if _is_scored(group)]
    return trajectories if _is_scored(trajectories) else None


def _is_scored(group: Mapping[str, Any] | None) -> bool:
    return group is not None and all(map(math.isfinite, group["scores"]))


def _samples(completions: Sequence[Any], prompts: Any, reference: Any, query_type: Any) -> list[Sample]:
    """Samples of a group; without `prompts` the turns before the last one of each completion are its prompt."""
    n = len(completions)
    if prompts is None:
        prompts = [None if isinstance(one, str) else list(one)[:-1] for one in completions]
        completions = [one if isinstance(one, str) else list(one)[-1:] for one in completions]
    columns = (
        column(prompts, n, "prompts"),
        column(reference, n, "reference"),
        column(query_type, n, "query_type"),
    )
    return [Sample(p, c, r, q) for c, p, r, q in zip(completions, *columns, strict=True)]
