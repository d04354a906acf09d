"""The checks of one configuration file: its framework, the rules for it, time limits, columns of its data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from reward_client.adapters.settings import AdapterSettings
from reward_client.doctor.check import Check, failed, note, ok
from reward_client.doctor.config_file import Config
from reward_client.doctor.config_rules import RULES
from reward_client.doctor.demand import Demand
from reward_client.doctor.frameworks import Framework, frameworks
from reward_client.errors import RewardError

_DATA = (
    r"(data\.(train_files|prompt_dataset|train_data)|(trl\.)?dataset(_name|_path)?|prompt_data|datasets\.0\.path)"
)
"""Settings that may name a file of prompts."""
_PROMPTS = ("prompt", "messages", "input", "question", "query", "responses_create_params")
_URLS = r"reward\.remote_url|rm_url|reward_model|reward_server|(.*\.)?resources_url"
_LINE_BYTES = 1024 * 1024


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
    yield from _same_service(config, urls)
    yield from _deadline(config, framework, environ)
    yield from _columns(config)


def _same_service(config: Config, urls: tuple[str, ...]) -> Iterator[Check]:
    """The URL in the configuration, or in the environment that a script sets, is that which is checked here."""
    given = [value for values in config.matching(_URLS).values() for value in values]
    given += [value for name, value in config.environment.items() if name == "GLASSBOX_URL"]
    checked = {urlsplit(url).netloc.rpartition("@")[2] for url in urls}
    for value in (part.strip() for text in given for part in text.split(",")):
        host = urlsplit(value).netloc.rpartition("@")[2]
        if host and checked and host not in checked and "$" not in host:
            yield note("address", f"the configuration names {host}, this check {', '.join(sorted(checked))}")


def _deadline(config: Config, framework: Framework, environ: Mapping[str, str]) -> Iterator[Check]:
    """The deadline of the adapter must be below the time limit of the framework, which may make a number of it."""
    limits = {framework.title: framework.timeout_s} if framework.module else {}
    for name in config.matching(r"reward\.timeout|(.*\.)?timeout\.scoring"):
        limits[name] = config.number(name)
    given = {**environ, **config.environment}.get("GLASSBOX_DEADLINE_S")
    try:
        deadline = float(given) if given else _default_deadline(framework)
    except ValueError:
        yield failed("deadline", f"GLASSBOX_DEADLINE_S is {given!r}", "write a number of seconds")
        return
    for name, seconds in limits.items():
        if seconds is not None and deadline >= seconds:
            found = f"the adapter waits {deadline:g} s for the service, {name} gives up after {seconds:g} s"
            fix = f"export GLASSBOX_DEADLINE_S={math.floor(seconds * 0.8) or seconds * 0.8:g}, or raise {name}"
            yield failed("deadline", found, fix)


def _columns(config: Config) -> Iterator[Check]:
    """The columns of the data set, if the configuration names a JSONL file that is here."""
    for values in config.matching(_DATA).values():
        for value in values:
            path = next((p for p in (Path(value), config.path.parent / value) if p.is_file()), None)
            if path is not None and path.suffix in (".jsonl", ".json"):
                yield from _first_row(path)


def _first_row(path: Path) -> Iterator[Check]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(_LINE_BYTES)
    try:
        row = json.loads(line)
    except ValueError:
        return
    if not isinstance(row, dict):
        return
    reference, query_type = "reference", "query_type"
    if not set(_PROMPTS) & row.keys():
        yield note("columns", f"{path.name} has {', '.join(row)}: no prompt by a usual name")
    if reference in row and query_type not in row:
        found = f"{path.name} has references and no query_type: all of them count as closed_ended"
        yield note("columns", found, "add a column query_type, or set GLASSBOX_QUERY_TYPE_DEFAULT=open_ended")
    elif query_type in row and reference not in row:
        found = f"{path.name} has query_type and no reference"
        yield failed("columns", found, "add the column, or name it: GLASSBOX_REFERENCE_COLUMN=answer")
    elif reference not in row:
        near = [name for name in ("answer", "solution", "ground_truth", "label", "target") if name in row]
        fix = f"if {near[0]} is the reference: export GLASSBOX_REFERENCE_COLUMN={near[0]}" if near else ""
        yield note("columns", f"{path.name} has no column reference: every item is open-ended", fix)
    else:
        yield ok("columns", f"{path.name} has reference and query_type")


def demand_of(config: Config | None, framework: Framework, environ: Mapping[str, str]) -> Demand:
    """The demand of the framework, with this configuration."""
    demand = framework.demand()
    if config is None:
        return replace(demand, recipe=environ.get("GLASSBOX_RECIPE") or None)
    found = {**environ, **config.environment}
    query = [parse_qs(urlsplit(value).query) for values in config.matching(_URLS).values() for value in values]
    recipes = [one["recipe"][-1] for one in query if "recipe" in one]
    return replace(
        demand,
        items=_product(config, framework.items),
        response_tokens=_whole(config.number(*framework.response_tokens)) if framework.response_tokens else None,
        prompt_tokens=_whole(config.number(*framework.prompt_tokens)) if framework.prompt_tokens else None,
        recipe=recipes[-1] if recipes else found.get("GLASSBOX_RECIPE") or None,
        clip=_clip(config, framework),
        scale=config.number("actor.reward_scaling") or 1.0,
        bias=config.number("actor.reward_bias") or 0.0,
    )


def url_of(config: Config) -> str | None:
    """The URL of the service that the configuration names, if it is complete."""
    found = [value for values in config.matching(_URLS).values() for value in values]
    urls = [
        value.split(",")[0] for value in found if value.startswith(("http://", "https://")) and "$" not in value
    ]
    return urls[0] if urls else None


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


def settings_of(environ: Mapping[str, str], framework: Framework) -> Check:
    """The settings of the adapters in this environment."""
    try:
        AdapterSettings.load(environ)
    except RewardError as exc:
        return failed("environment", str(exc), "correct the variable; docs/how-to/write-an-adapter.md lists them")
    given = [name for name in AdapterSettings.model_fields if environ.get(f"GLASSBOX_{name.upper()}")]
    shown = ", ".join(f"GLASSBOX_{name.upper()}" for name in given) or "no GLASSBOX_ variable of an adapter is set"
    if framework.module is None:
        return ok("environment", shown)
    deadline = environ.get("GLASSBOX_DEADLINE_S") or f"{_default_deadline(framework):g}"
    return ok("environment", f"{shown}; the adapter waits {deadline} s for the service")


def _default_deadline(framework: Framework) -> float:
    return framework.deadline_s or float(AdapterSettings.model_fields["deadline_s"].default)
