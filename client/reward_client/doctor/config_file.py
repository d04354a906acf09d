"""The configuration of a framework as names and values: YAML, TOML, or the command in a shell script.

--reward.remote_url "$URL/get_reward"     ─▶ reward.remote_url: ["http://…/get_reward"]
--rm-type remote_rm                       ─▶ rm_type: ["remote_rm"]
+reward.reward_kwargs.url=http://…        ─▶ reward.reward_kwargs.url, and its name in `added`
trl: {reward_funcs: [a, b]}               ─▶ trl.reward_funcs: ["a", "b"]
export GLASSBOX_RECIPE=rer                ─▶ environment
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_BYTES = 4 * 1024 * 1024
_ASSIGNED = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL)
_OVERRIDE = re.compile(r"(?P<plus>\+{0,2})(?P<name>[\w.@/-]+)=(?P<value>.*)", re.DOTALL)
_FLAG = re.compile(r"--(?P<name>[A-Za-z][\w.-]*)(?:=(?P<value>.*))?", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SHORT_OPTION = re.compile(r"-[A-Za-z]")


class ConfigError(ValueError):
    """The file cannot be read; the message has the cause."""


@dataclass(slots=True)
class Config:
    """Names and values of one file."""

    path: Path
    text: str
    values: dict[str, list[str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    """Names of hydra overrides with a `+`."""

    def get(self, *names: str) -> str | None:
        """The last value of the first name that is set."""
        found = self.all(*names)
        return found[-1] if found else None

    def all(self, *names: str) -> list[str]:
        """The values of the first name that is set."""
        return next((self.values[name] for name in names if self.values.get(name)), [])

    def has(self, *names: str) -> bool:
        """Whether one of the names is set, with or without a value."""
        return any(name in self.values for name in names)

    def number(self, *names: str) -> float | None:
        """The value as a number; None if it is not set, or no number."""
        try:
            return float(self.get(*names) or "")
        except ValueError:
            return None

    def matching(self, pattern: str) -> dict[str, list[str]]:
        """All settings whose name matches."""
        return {name: values for name, values in self.values.items() if re.fullmatch(pattern, name)}


def read_config(path: Path) -> Config:
    """Read a file. Raises ConfigError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES // 1024**2} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {why}") from None
    config = Config(path, text)
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml", ".json"):
        config.values = flat(_yaml(path, text))
    elif suffix == ".toml":
        config.values = flat(_toml(path, text))
    else:
        _read_shell(config)
    return config


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from None


def _yaml(path: Path, text: str) -> Any:
    """Also of JSON, which is YAML."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise ConfigError(f"{path} is YAML: pip install pyyaml, which every framework with YAML has") from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path} is not YAML{where}: {getattr(exc, 'problem', None) or type(exc).__name__}"
        ) from None


def flat(value: Any) -> dict[str, list[str]]:
    """Nested mappings as dotted names; a list of scalars is several values, other lists have their indices."""
    return {name: values for name, values in _flat(value, "") if name}


def _flat(value: Any, name: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, (Mapping, list)) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{index}" if name else str(index))
    elif isinstance(value, list):
        yield name, [_text(inner) for inner in value]
    elif value is not None:
        yield name, [_text(value)]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# Shell --------------------------------------------------------------------------------------------------------


def _read_shell(config: Config) -> None:
    """Flags, overrides and variables of all commands in a script, which is not run."""
    variables: dict[str, str] = {}
    for words in _commands(config.text):
        name = ""
        for position, raw in enumerate(words):
            word = _expanded(raw, variables)
            flag, override, assigned = _FLAG.fullmatch(word), _OVERRIDE.fullmatch(word), _ASSIGNED.fullmatch(word)
            before = words[:position]
            if assigned and all(_ASSIGNED.fullmatch(one) or one in ("export", "env", "declare") for one in before):
                variables[assigned["name"]] = assigned["value"]
            elif flag:
                name = flag["name"].replace("-", "_")
                config.values[name] = [] if flag["value"] is None else [flag["value"]]
            elif override:
                name = override["name"]
                config.values[name] = _list(override["value"])
                if override["plus"]:
                    config.added.add(name)
                name = ""
            elif name and not _SHORT_OPTION.match(word) and word not in (")", "(", ";", "&&", "|"):
                config.values[name].append(word.rstrip(")") if word.endswith(")") and "(" not in word else word)
            else:
                name = ""
    config.environment = variables


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each command; one that cannot be split is left out."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        if words:
            yield words


def _expanded(word: str, variables: Mapping[str, str]) -> str:
    """With the variables that the script sets; others stay."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), word)


def _list(value: str) -> list[str]:
    """`[a,b]` of hydra as two values."""
    if value.startswith("[") and value.endswith("]"):
        return [part.strip().strip("'\"") for part in value[1:-1].split(",") if part.strip()]
    return [value.strip("'\"")]


def unresolved(values: Iterable[str]) -> bool:
    """Whether a value has a variable that is set elsewhere."""
    return any("$" in value for value in values)
