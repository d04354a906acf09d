"""Rules for the configuration of each framework: which line is missing or wrong.

Each rule is a function of the configuration; `RULES` has those of each framework. `named` and `posted_to` are the
two common forms: a setting that names our adapter, and one with our URL.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from reward_client.doctor.check import Check, failed, note, ok
from reward_client.doctor.config_file import Config, unresolved
from reward_client.doctor.frameworks import Framework
from reward_client.urls import split_urls, without_userinfo

Rule = Callable[[Config, Framework], Iterator[Check]]
_OURS = re.compile(r"glassbox|reward_client", re.IGNORECASE)


def named(config: Config, names: Sequence[str], expected: str, line: str) -> Check:
    """Whether one of the settings `names` has the value `expected`; else `line` is what to write."""
    values = [without_userinfo(value) for value in config.all(*names)]
    if not values:
        return failed("reward", f"{config.path.name} has no {names[0]}", f"add: {line}")
    if expected in values:
        return ok("reward", f"{names[0]} names {expected}")
    if unresolved(values):
        return note(
            "reward", f"{names[0]} is {' '.join(values)}, which is set elsewhere", f"it must be {expected}"
        )
    shown = [value for value in values if _OURS.search(value)] or values
    found = f"{names[0]} names {' '.join(shown)}, which is not the adapter"
    return failed("reward", found, f"write: {line}")


def _is_yaml(config: Config) -> bool:
    return config.path.suffix in (".yaml", ".yml")


def posted_to(config: Config, names: Sequence[str], framework: Framework, prefix: str = "") -> Iterator[Check]:
    """Whether the setting is a URL with the route of the framework's protocol."""
    line = framework.lines.strip().splitlines()[0]
    values = config.all(*names)
    if not values:
        yield failed("reward URL", f"{config.path.name} has no {prefix}{names[0]}", f"add: {line}")
        return
    for value in itertools.chain.from_iterable(map(split_urls, values)):
        yield _url(value, prefix + names[0], framework.route or "")


def _url(value: str, name: str, route: str) -> Check:
    shown = without_userinfo(value)
    parts = urlsplit(shown)
    if not value.startswith(("http://", "https://")):
        if "$" in value:
            return note("reward URL", f"{name} is {shown}, which is set elsewhere", f"its path must be {route}")
        return failed("reward URL", f"{name} is {shown}, which is no URL", f"write: http://HOST:8000{route}")
    path = re.sub(r"/r/[^/]+(?=/)", "", parts.path)
    if path.endswith(route):  # before it may be the prefix of a reverse proxy
        return ok("reward URL", f"{name} posts to {shown.partition('?')[0]}")
    query = f"?{parts.query}" if parts.query else ""
    right = f"{parts.scheme}://{parts.netloc}{route}{query}"
    return failed("reward URL", f"{name} posts to the path {parts.path or '/'}, not to {route}", f"write: {right}")


def _openrlhf(config: Config, framework: Framework) -> Iterator[Check]:
    value = config.get("reward.remote_url")
    if value is not None and (value.endswith(".py") or "reward_client.adapters.openrlhf" in value):
        yield ok("reward", f"--reward.remote_url is the file {value}")
    else:
        yield from posted_to(config, ["reward.remote_url"], framework, "--")
    if not config.has("data.label_key"):
        fix = "add: --data.label_key label (a column with the reference, or {reference, query_type})"
        yield note("columns", "without --data.label_key no reference reaches the service", fix)
    if not config.has("data.apply_chat_template"):
        found = "without --data.apply_chat_template prompts are plain text, one user message each"
        yield note("chat template", found, "add --data.apply_chat_template if the policy has a chat template")


def _trl(config: Config, framework: Framework) -> Iterator[Check]:
    names = ["trl.reward_funcs", "reward_funcs"] if config.has("rl", "trl.reward_funcs") else ["reward_funcs"]
    expected = f"{framework.module}.glassbox"
    line = f"reward_funcs: [{expected}]" if _is_yaml(config) else f"--reward_funcs {expected}"
    yield named(config, names, expected, line)
    if config.get("remove_unused_columns") == "true":
        fix = "write: remove_unused_columns: false"
        yield failed("columns", "remove_unused_columns drops the columns reference and query_type", fix)


def _axolotl(config: Config, framework: Framework) -> Iterator[Check]:
    if config.get("rl") not in ("grpo", "gdpo"):
        yield failed("algorithm", f"rl is {config.get('rl') or 'not set'}", "write: rl: grpo")
    yield from _trl(config, framework)


def _verl(config: Config, _: Framework) -> Iterator[Check]:
    module = "pkg://reward_client.adapters.verl"
    function = "reward.custom_reward_function"
    manager = "reward.reward_manager"
    if config.has(f"{manager}.module.path") or config.get(f"{manager}.name") == "Glassbox":
        for name, value in (("source", "importlib"), ("module.path", module), ("name", "Glassbox")):
            yield named(config, [f"{manager}.{name}"], value, f"{manager}.{name}={value}")
    else:
        old = "custom_reward_function"
        yield named(config, [f"{function}.path", f"{old}.path"], module, f"{function}.path={module}")
        yield named(config, [f"{function}.name", f"{old}.name"], "compute_score", f"{function}.name=compute_score")
        yield note(
            "prompt",
            "a reward function of verl sees no prompt: `extra_info.prompt` must hold it",
            f"or use the manager, which sees it: {manager}.source=importlib {manager}.module.path={module} "
            f"{manager}.name=Glassbox",
        )
    if config.get(f"{manager}.name", "reward_model.reward_manager") in ("rate_limited", "limited"):
        found = f"{manager}.name=rate_limited turns every failure into the reward 0.0"
        yield failed("manager", found, f"write: {manager}.name=naive, or use the manager Glassbox")
    for name in config.matching(r"reward\.(custom_reward_function\.)?reward_kwargs\..*"):
        if not _is_yaml(config) and name not in config.added:
            yield failed("override", f"{name} is no key of verl's configuration", f"write: +{name}=…")


def _verifiers(config: Config, framework: Framework) -> Iterator[Check]:
    urls = config.matching(r"(.*\.)?resources_url")
    functions = config.matching(r"(.*\.)?rewards\.[^.]+\.fn")
    expected = f"{framework.module}:glassbox"
    if urls:
        for name, values in urls.items():
            is_url = values[-1].startswith(("http://", "https://"))
            path = urlsplit(values[-1]).path.rstrip("/")
            if is_url and re.search(r"/nemo_gym(/[^/]+=[^/]*)?$", path):
                yield ok("reward URL", f"{name} is {without_userinfo(values[-1])}")
            else:
                found = f"{name} is {without_userinfo(values[-1])}"
                yield failed("reward URL", found, f'write: {name} = "http://HOST:8000/nemo_gym"')
        yield from _at_least(config, r"(.*\.)?request_timeout", 60)
        return
    line = framework.lines.strip().replace("\n", " ")
    both = Config(config.path, config.text, {"rewards": [value for one in functions.values() for value in one]})
    yield named(both, ["rewards"], expected, line)
    yield from _at_least(config, r"(.*\.)?timeout\.scoring", 60)


def _at_least(config: Config, pattern: str, seconds: float) -> Iterator[Check]:
    """Settings that end a call must leave time for a service that is busy or starts again."""
    for name, values in config.matching(pattern).items():
        given = config.number(name)
        if given is not None and given < seconds:
            found = f"{name} = {values[-1]} gives a call up before the service's models have worked off a queue"
            yield failed("time limit", found, f"write: {name} = {seconds:g}, and GLASSBOX_DEADLINE_S below it")


def _slime(config: Config, framework: Framework) -> Iterator[Check]:
    if config.get("rm_type") != "remote_rm":
        found = f"--rm-type is {config.get('rm_type') or 'not set'}"
        yield failed("reward", found, "write: --rm-type remote_rm")
    yield from posted_to(config, ["rm_url"], framework, "--")
    keyed = "keyed=" in (config.get("rm_url") or "")
    if keyed != config.has("reward_key"):
        fix = "write: --reward-key score" if keyed else "remove --reward-key: the reply is a bare number"
        yield failed("reward key", f"the reply is {'an object' if keyed else 'a number'}", fix)


def _swift(config: Config, framework: Framework) -> Iterator[Check]:
    yield named(config, ["reward_funcs"], "glassbox", "--reward_funcs glassbox")
    plugins = config.all("external_plugins")
    plugin = f'--external_plugins "$(python -m {framework.module})"'
    if any(str(framework.module) in one or one.endswith("glassbox_swift.py") for one in plugins):
        yield ok("plug-in", f"external_plugins is {' '.join(plugins)}")
    elif any(one.endswith("adapters/swift.py") for one in plugins):
        yield failed("plug-in", "ms-swift cannot import adapters/swift.py: its name is that of ms-swift", plugin)
    else:
        found = f"external_plugins is {' '.join(plugins) or 'not set'}"
        yield failed("plug-in", found, f"write: {plugin}")


def _nemo_gym(config: Config, _: Framework) -> Iterator[Check]:
    entries = config.matching(r"(.*\.)?resources_servers\.[^.]+\.entrypoint")
    ours = {name: values for name, values in entries.items() if _OURS.search(name)}
    if not ours:
        found = f"the resources servers are {', '.join(entries) or 'none'}"
        yield failed("reward", found, "add: glassbox: {resources_servers: {glassbox: {entrypoint: app.py}}}")
        return
    for name, values in ours.items():
        if not values[-1].endswith(".py"):
            yield failed(
                "reward", f"{name} is {values[-1]}", "write: entrypoint: app.py (a file of the server's folder)"
            )
        else:
            yield ok("reward", f"{name} is {values[-1]}")


def _skyrl(config: Config, framework: Framework) -> Iterator[Check]:
    yield named(config, ["environment.env_class", "env_class"], "glassbox", "environment.env_class=glassbox")
    yield note(
        "registration",
        "the configuration alone cannot register the environment",
        f"in the entrypoint: {framework.lines.strip().splitlines()[0]}",
    )


def _tunix(config: Config, framework: Framework) -> Iterator[Check]:
    module = str(framework.module)
    yield named(config, ["reward_functions"], module, framework.lines.strip())


def _areal(config: Config, framework: Framework) -> Iterator[Check]:
    expected = f"{framework.module}.glassbox"
    names = sorted(name for name in config.values if name.split(".")[-1] in ("reward_fn", "reward_fn_path"))
    yield named(config, names or ["reward_fn"], expected, f"reward_fn: {expected}")


def _llama_factory(config: Config, framework: Framework) -> Iterator[Check]:
    if config.get("reward_model_type") != "api":
        found = f"reward_model_type is {config.get('reward_model_type') or 'not set'}"
        yield failed("reward", found, "write: reward_model_type: api")
    yield from posted_to(config, ["reward_model"], framework)


def _paddlenlp(config: Config, framework: Framework) -> Iterator[Check]:
    yield from posted_to(config, ["reward_server"], framework)


RULES: dict[str, Rule] = {
    "openrlhf": _openrlhf,
    "trl": _trl,
    "axolotl": _axolotl,
    "verl": _verl,
    "verifiers": _verifiers,
    "prime-rl": _verifiers,
    "slime": _slime,
    "miles": _slime,
    "swift": _swift,
    "nemo-gym": _nemo_gym,
    "skyrl": _skyrl,
    "tunix": _tunix,
    "areal": _areal,
    "llama-factory": _llama_factory,
    "paddlenlp": _paddlenlp,
}
"""By the name of the framework; the others are configured in Python, which is not read."""
