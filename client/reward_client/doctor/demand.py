"""The demand of a framework on the service, from its table entry and its configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """One framework with one configuration."""

    framework: str = "a trainer"
    """Its name, for messages."""
    items: int | None = None
    """Samples of one call, if the configuration has it."""
    response_tokens: int | None = None
    """Longest response."""
    prompt_tokens: int | None = None
    """Longest prompt."""
    timeout_s: float | None = None
    """Seconds after which the framework gives a call up; None: it waits."""
    recipe: str | None = None
    """Recipe that the configuration names."""
    clip: tuple[float, float] | None = None
    """Range to which the framework clips rewards; None: it does not clip."""
    clip_setting: str = ""
    """The setting of that range, for messages."""
    scale: float = 1.0
    bias: float = 0.0
    """The framework clips (reward + bias) × scale."""
    scale_text: str = ""
    """What it does with a reward besides, in one sentence."""
