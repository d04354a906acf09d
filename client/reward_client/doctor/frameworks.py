"""The frameworks that the service can be attached to, read from `frameworks.toml`: one table for code and docs."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from reward_client.doctor.demand import Demand

HOST = "http://HOST:8000"
"""Placeholder of the service's URL in the lines to paste."""


class Framework(BaseModel):
    """One framework."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    page: str
    """Its page in docs/frameworks, without the suffix."""
    attach: str
    """How it is attached, in a few words."""
    label: str
    """How that was tried: `run in CI`, `run by hand on DATE` or `unverified`."""
    training: bool = False
    """Whether what was tried includes a step of training; otherwise it was the way of the reward alone."""
    package: str | None = None
    """Its distribution; None if it is installed from source."""
    module: str | None = None
    """The adapter's module; None where the framework takes a URL."""
    route: str | None = None
    """The route that the framework posts to; None where an adapter posts to /score."""
    body: str | None = None
    """What it posts, as JSON."""
    reward: str = ""
    """Where in the reply it reads the reward: a dotted place, or "" for the reply itself."""
    lines: str
    """What to paste."""
    reference: str
    """Where the reference and the query type come from."""
    timeout_s: float | None = None
    """Seconds after which it gives a call up."""
    clip: tuple[float, float] | None = None
    """Range to which it clips rewards by default."""
    clip_setting: str = ""
    scale_text: str = ""
    deadline_s: float | None = None
    """Default of the adapter's GLASSBOX_DEADLINE_S, if it is not that of all adapters."""
    config: Literal["shell", "yaml", "toml", "python"]
    """How its configuration is written most often."""
    detect: str
    """Pattern by which its configuration is recognised."""
    items: tuple[str, ...] = ()
    """Settings whose product is the number of samples of one call."""
    response_tokens: tuple[str, ...] = ()
    """Settings with the longest response."""
    prompt_tokens: tuple[str, ...] = ()
    failure: dict[str, str]
    """What it does with each failure."""

    def demand(self) -> Demand:
        """The demand without any configuration."""
        return Demand(
            framework=self.title,
            timeout_s=self.timeout_s,
            clip=self.clip,
            clip_setting=self.clip_setting,
            scale_text=self.scale_text,
        )

    def pasted(self, url: str) -> str:
        """The lines to paste, for the service at `url`."""
        return self.lines.strip().replace(HOST, url)


@cache
def frameworks() -> dict[str, Framework]:
    """All frameworks by name."""
    text = files("reward_client.doctor").joinpath("frameworks.toml").read_text(encoding="utf-8")
    return {name: Framework.model_validate(found) for name, found in tomllib.loads(text).items()}
