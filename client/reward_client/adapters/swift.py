"""ms-swift: a reward function of GRPO, as an external plug-in.

    swift rlhf --rlhf_type grpo … --reward_funcs glassbox \\
        --external_plugins "$(python -m reward_client.adapters.swift)"

The command prints the path of the plug-in, `swift_plugin/glassbox_swift.py`, which registers `Glassbox`. This
file is not the plug-in, because ms-swift puts the folder of a plug-in first on the import path, where `trl.py`
beside this file would replace the package `trl`.

ms-swift counts None and NaN as 0, so a sample without a reward raises RewardError, which ends the run.

Features are logged as reward functions of weight 0, which follow `glassbox` and are named in a variable too:

    GLASSBOX_LOG_FEATURES=length_incentive,truncated swift rlhf … \\
        --reward_funcs glassbox glassbox/length_incentive glassbox/truncated --reward_weights 1 0 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from reward_client.adapters.samples import column, prompts_of, samples
from reward_client.adapters.scorer import Scored, rewards, scorer_of
from reward_client.adapters.settings import AdapterSettings
from reward_client.errors import RewardError

PLUGIN = Path(__file__).parent / "swift_plugin" / "glassbox_swift.py"
NAME = "glassbox"
"""What `--reward_funcs` names; ms-swift logs `rewards/Glassbox/mean`, by the name of the class."""
TRUNCATED = "truncated"
"""Logged like a feature: whether the response reached the limit on its tokens, which only ms-swift says."""


def _names(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


class SwiftSettings(AdapterSettings):
    """Settings with the features to log."""

    log_features: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """Names that `--reward_funcs` may have after `glassbox/`; in the environment separated by commas."""


@dataclass(frozen=True, slots=True)
class _Batch:
    completions: Sequence[str]
    scored: Sequence[Scored]
    truncated: Sequence[Any]

    def values(self, feature: str) -> list[float | None]:
        if feature == TRUNCATED:
            return [None if value is None else float(value) for value in self.truncated]
        return [one.applicable_features().get(feature) for one in self.scored]


class Glassbox:
    """The reward function. Its samples stay available for the features that are logged."""

    latest: ClassVar[_Batch | None] = None

    def __init__(self, **_: Any) -> None:
        self._settings = SwiftSettings.load()

    def __call__(
        self, completions: Sequence[str], messages: Sequence[Any], is_truncated: Any = None, **columns: Any
    ) -> list[float]:
        """The rewards of a batch. Raises RewardError when a sample has none.

        Args:
            completions: the responses.
            messages: the conversations; the last message of each is its response.
            is_truncated: by sample, whether the response reached the limit on its tokens.
            columns: those of the data set, and others of ms-swift.
        """
        settings = self._settings
        prompts = prompts_of(settings, [_before_response(turns) for turns in messages], columns)
        scored = scorer_of(settings).score(samples(settings, prompts, completions, columns))
        values = rewards(scored)
        Glassbox.latest = _Batch(completions, scored, column(is_truncated, len(completions), "is_truncated"))
        return values


def _before_response(conversation: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    last = len(conversation) - 1
    return [turn for i, turn in enumerate(conversation) if i < last or turn.get("role") != "assistant"]


class LoggedFeature:
    """A feature as a reward function of weight 0: ms-swift logs its mean over the samples that it applies to.

    A function is told all weights, not its own, so only `Glassbox` may have another one.
    """

    feature: ClassVar[str]

    def __init__(self, args: Any, **_: Any) -> None:
        weights = list(getattr(args, "reward_weights", None) or [])
        features = SwiftSettings.load().log_features
        if len(weights) != 1 + len(features) or any(weights[1:]):
            zeros = " 0" * len(features)
            raise RewardError(
                f"{type(self).__name__} is a logged feature: --reward_funcs must be {NAME}, then the names "
                f"in GLASSBOX_LOG_FEATURES, with --reward_weights 1{zeros}; the weights are {weights}"
            )
        if getattr(args, "scale_rewards", None) == "gdpo":
            raise RewardError("--scale_rewards gdpo scales every function: leave the features out")

    def __call__(self, completions: Sequence[str], **_: Any) -> list[float | None]:
        """The values of the batch that `Glassbox` scored last; None where the feature does not apply."""
        latest = Glassbox.latest
        if latest is None or latest.completions is not completions:
            raise RewardError(f"--reward_funcs must name {NAME} before {type(self).__name__}")
        return latest.values(self.feature)


def reward_functions() -> dict[str, type]:
    """What the plug-in registers, by name."""
    logged = {f"{NAME}/{feature}": feature for feature in SwiftSettings.load().log_features}
    return {NAME: Glassbox} | {
        name: type(name, (LoggedFeature,), {"feature": feature}) for name, feature in logged.items()
    }


if __name__ == "__main__":
    print(PLUGIN)  # noqa: T201 - for a command line
