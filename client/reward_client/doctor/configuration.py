"""The checks of one configuration file: its framework, the rules for it, settings of the adapter, its data."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from reward_client.doctor.check import Check, note
from reward_client.doctor.config_data import check_columns
from reward_client.doctor.config_file import Config
from reward_client.doctor.config_rules import RULES
from reward_client.doctor.config_settings import check_settings, keyword, posted_url
from reward_client.doctor.demand import Demand
from reward_client.doctor.frameworks import Framework, frameworks


def recognise(config: Config) -> str | None:
    """The framework whose pattern occurs in the file; one that wraps another has its own name in it."""
    found = [name for name, one in frameworks().items() if re.search(one.detect, config.text, re.MULTILINE)]
    specific = [name for name in found if name in ("axolotl", "miles", "prime-rl", "nemo-rl", "unsloth")]
    return next(iter(specific or found), None)


def check_config(
    config: Config, name: str, environ: Mapping[str, str], urls: tuple[str, ...] = ()
) -> Iterator[Check]:
    """Which line is missing or wrong."""
    framework = frameworks()[name]
    rule = RULES.get(name)
    if rule is None:
        found = f"{framework.title} is configured in Python, which is not read"
        yield note("configuration", found, "compare it with the lines to paste")
        return
    yield from rule(config, framework)
    yield from check_settings(config, framework, environ, urls)
    yield from check_columns(config)


def demand_of(config: Config | None, framework: Framework, environ: Mapping[str, str]) -> Demand:
    """The demand of the framework, with this configuration."""
    demand = framework.demand()
    if config is None:
        return replace(demand, recipe=environ.get("GLASSBOX_RECIPE") or None)
    in_url = parse_qs(urlsplit(posted_url(config) or "").query).get("recipe", [])
    return replace(
        demand,
        items=_product(config, framework.items),
        response_tokens=_whole(config.number(*framework.response_tokens)) if framework.response_tokens else None,
        prompt_tokens=_whole(config.number(*framework.prompt_tokens)) if framework.prompt_tokens else None,
        recipe=in_url[-1] if in_url else keyword(config, "recipe", environ),
        clip=_clip(config, framework),
        scale=config.number("actor.reward_scaling") or 1.0,
        bias=config.number("actor.reward_bias") or 0.0,
    )


def _product(config: Config, names: tuple[str, ...]) -> int | None:
    numbers = [config.number(name) for name in names]
    given = [number for number in numbers if number is not None]
    return int(math.prod(given)) if given else None


def _whole(number: float | None) -> int | None:
    return None if number is None or not math.isfinite(number) else int(number)


def _clip(config: Config, framework: Framework) -> tuple[float, float] | None:
    """The range in the configuration, or the framework's default."""
    if framework.clip is None:
        return None
    values = config.all(framework.clip_setting.lstrip("-"))
    try:
        bounds = [float(value) for value in values]
    except ValueError:
        return framework.clip
    if len(bounds) == 1:
        return -abs(bounds[0]), abs(bounds[0])
    return (bounds[0], bounds[1]) if len(bounds) == 2 else framework.clip
