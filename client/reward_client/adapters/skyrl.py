"""SkyRL: an environment of one turn, registered in the script that starts the training.

    skyrl_gym.register(id="glassbox", entry_point="reward_client.adapters.skyrl:GlassboxEnv")

It is chosen by `environment.env_class=glassbox`, or by a data set column `env_class`. The reference is
`reward_spec.ground_truth`, or the column `reference` if the row has a value there; a column that
GLASSBOX_REFERENCE_COLUMN names must exist. Settings are
environment variables, or keys of the environment's configuration (`env_config`).

The features that apply are the metrics of an episode, `glassbox/NAME`: SkyRL averages each over the episodes that
have it. A failure raises, which ends the training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reward_client.adapters.samples import Sample, label_of
from reward_client.adapters.scorer import rewards, scorer_of
from reward_client.adapters.settings import AdapterSettings

if TYPE_CHECKING:
    BaseTextEnv: Any = object
else:
    try:
        from skyrl_gym.envs.base_text_env import BaseTextEnv
    except ImportError:
        BaseTextEnv = object


class GlassboxEnv(BaseTextEnv):  # type: ignore[misc]
    """One prompt, one response, its reward."""

    def __init__(
        self, env_config: Mapping[str, Any] | None = None, extras: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        given = {str(name): value for name, value in (env_config or {}).items()}
        self._scorer = scorer_of(AdapterSettings.load(**given))  # shared: there is one environment a response
        self._row = dict(extras or {})
        self._prompt: Any = None
        self._metrics: dict[str, float] = {}

    def init(self, prompt: Any) -> tuple[Any, dict[str, Any]]:
        """The first prompt for the model, and no metadata."""
        self._prompt = prompt
        return prompt, {}

    def step(self, action: str) -> dict[str, Any]:
        """The reward of the response `action`; the episode ends. Raises RewardError."""
        scored = self._scorer.score([self._sample(action)])
        reward = rewards(scored)[0]
        self._metrics = {f"glassbox/{name}": value for name, value in scored[0].applicable_features().items()}
        return {"observations": [], "reward": reward, "done": True, "metadata": dict(self._metrics)}

    def get_metrics(self) -> dict[str, float]:
        """The features of the response."""
        return self._metrics

    def _sample(self, response: str) -> Sample:
        truth = (self._row.get("reward_spec") or {}).get("ground_truth")
        return Sample(self._prompt, response, *label_of(self._scorer.settings, self._row, truth))
