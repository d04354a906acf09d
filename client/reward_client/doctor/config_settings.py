"""Settings of the adapter in a framework's configuration: keywords that it passes, variables that a script sets.

+reward.reward_kwargs.url=http://…                    verl
glassbox: {url: http://…}                             NeMo-Gym, in the entry of the resources server
export GLASSBOX_DEADLINE_S=60                         a script
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from reward_client.adapters.settings import AdapterSettings, variable
from reward_client.doctor.check import Check, failed, note, ok
from reward_client.doctor.config_file import Config
from reward_client.doctor.frameworks import Framework
from reward_client.errors import RewardError
from reward_client.urls import split_urls, without_userinfo

_KEYWORD = re.compile(r"(?:.*\.)?(?:reward_kwargs|env_config|resources_servers\.[^.]+\.glassbox)\.(\w+)")
_POSTED = r"reward\.remote_url|rm_url|reward_model|reward_server|(.*\.)?resources_url"
"""Settings with the URL that a framework posts to by itself."""
_LIMITS = r"reward\.timeout|(.*\.)?timeout\.scoring"


def keyword(config: Config, name: str, environ: Mapping[str, str]) -> str | None:
    """A setting of the adapter: in the configuration, else in its script's environment, else in this one's."""
    for key, values in config.values.items():
        found = _KEYWORD.fullmatch(key)
        if found and found[1] == name and values:
            return values[-1]
    return config.environment.get(variable(name)) or environ.get(variable(name)) or None


def posted_url(config: Config) -> str | None:
    """The URL that the framework posts to by itself, if it is complete."""
    found = [value for values in config.matching(_POSTED).values() for value in values]
    urls = [
        split_urls(value)[0] for value in found if value.startswith(("http://", "https://")) and "$" not in value
    ]
    return urls[0] if urls else None


def service_urls(config: Config, framework: Framework | None) -> list[str]:
    """The addresses of the service in the configuration, without routes."""
    posted = posted_url(config)
    if posted is not None:
        bare = without_userinfo(posted)
        parts, route = urlsplit(bare), (framework.route if framework else None) or "/nemo_gym"
        prefix = re.sub(r"/r/[^/]+$", "", parts.path.partition(route)[0]) if route in parts.path else ""
        scheme_and_key = posted.removesuffix(bare.partition("://")[2])
        return [f"{scheme_and_key}{parts.netloc}{prefix}"]
    listed = keyword(config, "url", {}) or ""
    return [url for url in split_urls(listed) if url.startswith("http") and "$" not in url]


def check_settings(
    config: Config, framework: Framework, environ: Mapping[str, str], urls: tuple[str, ...]
) -> Iterator[Check]:
    """Names of keywords, a key in the file, the address, the deadline."""
    known = list(AdapterSettings.model_fields)
    for key in config.values:
        found = _KEYWORD.fullmatch(key)
        if found and found[1] not in known:
            nearest = difflib.get_close_matches(found[1], known, n=1)
            fix = f"did you mean {nearest[0]}?" if nearest else f"the adapter has {', '.join(known)}"
            yield failed("settings", f"{key} is no setting of the adapter", fix)
        elif found and found[1] == "api_key":
            fix = "remove it, and export GLASSBOX_API_KEY where the trainer's processes start"
            yield note("settings", f"{key} holds the API key, which frameworks print and log", fix)
    yield from _same_service(config, framework, urls)
    yield from _deadline(config, framework, environ)


def _same_service(config: Config, framework: Framework, urls: tuple[str, ...]) -> Iterator[Check]:
    """The address in the configuration is that which is checked here."""
    checked = {urlsplit(without_userinfo(url)).netloc.lower() for url in urls}
    for url in service_urls(config, framework):
        host = urlsplit(without_userinfo(url)).netloc.lower()
        if checked and host not in checked:
            found = f"the configuration names {host}, this check {', '.join(sorted(checked))}"
            yield note(
                "address", found, "check the address that the trainer will use, or correct the configuration"
            )


def _deadline(config: Config, framework: Framework, environ: Mapping[str, str]) -> Iterator[Check]:
    """The deadline of the adapter must be below the time limit of the framework, which may make a number of it."""
    limits = {framework.title: framework.timeout_s} if framework.module else {}
    limits |= {name: config.number(name) for name in config.matching(_LIMITS)}
    given = keyword(config, "deadline_s", environ)
    try:
        deadline = float(given) if given else default_deadline(framework)
    except ValueError:
        yield failed("deadline", f"the adapter's deadline_s is {given!r}", "write a number of seconds")
        return
    for name, seconds in limits.items():
        if seconds is not None and deadline >= seconds:
            found = f"the adapter waits {deadline:g} s for the service, {name} gives up after {seconds:g} s"
            below = math.floor(seconds * 0.8) or seconds * 0.8
            yield failed("deadline", found, f"export GLASSBOX_DEADLINE_S={below:g}, or raise {name}")


def default_deadline(framework: Framework) -> float:
    """Seconds that the framework's adapter waits by default."""
    return framework.deadline_s or float(AdapterSettings.model_fields["deadline_s"].default)


def settings_of(environ: Mapping[str, str], framework: Framework) -> Check:
    """The settings of the adapters in this environment."""
    try:
        AdapterSettings.load(environ)
    except RewardError as exc:
        return failed("environment", str(exc), "correct the variable; docs/frameworks/README.md lists them")
    given = [variable(name) for name in AdapterSettings.model_fields if environ.get(variable(name))]
    shown = ", ".join(given) or "no GLASSBOX_ variable of an adapter is set"
    if framework.module is None:
        return ok("environment", shown)
    deadline = environ.get(variable("deadline_s")) or f"{default_deadline(framework):g}"
    return ok("environment", f"{shown}; the adapter waits {deadline} s for the service")
