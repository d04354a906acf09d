"""The deployment files of the repository, parsed: YAML, Dockerfiles, .env.example, PromQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reward_service.settings import Settings

__all__ = [
    "ROOT",
    "Instruction",
    "env_examples",
    "in_bytes",
    "instructions",
    "load_json",
    "load_yaml",
    "metric_names",
    "peak_bytes",
    "scalars",
]

ROOT = Path(__file__).resolve().parents[2]


class _ComposeLoader(yaml.SafeLoader):
    """YAML with the tags of compose (`!override`, `!reset`), which mark how files are merged."""


def _untagged(loader: _ComposeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return node.value


_ComposeLoader.add_multi_constructor("!", _untagged)


def load_yaml(name: str) -> Any:
    """A YAML file of the repository, by its path from the root."""
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), _ComposeLoader)  # noqa: S506 (a SafeLoader)


def load_json(name: str) -> Any:
    """A JSON file of the repository, by its path from the root."""
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def scalars(node: object) -> Iterator[str]:
    """Every string in a parsed document: values, list entries and keys."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from scalars(key)
            yield from scalars(value)
    elif isinstance(node, list):
        for value in node:
            yield from scalars(value)
    elif isinstance(node, str):
        yield node


def env_examples() -> dict[str, str]:
    """The settings of .env.example, as if no line were commented out."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"#([A-Z][A-Z0-9_]+)=(.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


# Memory ------------------------------------------------------------------------------------------------------

IDLE_BYTES = 1 << 30
"""Resident memory of an idle service with the embedded models, rounded up: 0.6 GiB on two cores."""


def in_bytes(text: str) -> int:
    """Bytes of a size as Docker and Kubernetes write it, in powers of 1,024: 4g, 256m, 2Gi, 256Mi."""
    number, unit = re.fullmatch(r"(\d+)([gm])i?", text.lower()).groups()  # type: ignore[union-attr]
    return int(number) << {"m": 20, "g": 30}[unit]


def peak_bytes(scratch: int) -> int:
    """What a service with default settings may use: idle, caches, data sets, twice what requests hold, /tmp."""
    default = {name: field.default for name, field in Settings.model_fields.items()}
    caches = sum(int(default[name]) for name in ("cache_bytes", "idempotency_bytes", "datasets_bytes"))
    return IDLE_BYTES + caches + 2 * int(default["max_waiting_bytes"]) + scratch


# Dockerfiles -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    keyword: str
    words: list[str]

    @property
    def options(self) -> dict[str, str]:
        """The leading `--name=value` words."""
        pairs = (word[2:].partition("=") for word in self.words if word.startswith("--"))
        return {name: value for name, _, value in pairs}

    @property
    def arguments(self) -> list[str]:
        """The words that are not options."""
        return [word for word in self.words if not word.startswith("--")]


def instructions(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile, in order; comments are left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    split = (line.split() for line in joined if line.strip())
    return [Instruction(keyword.upper(), words) for keyword, *words in split]


# PromQL ------------------------------------------------------------------------------------------------------

_PROMQL = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<matchers>\{[^{}]*\})
    |(?P<range>\[[^\]]*\])
    |(?P<labels>\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\))
    |(?P<function>\b[a-z_]+(?=\s*(?:by\s*|without\s*)?\())
    |(?P<number>\b\d[\w.]*)
    |(?P<name>[a-zA-Z_:][\w:]*)""",
    re.VERBOSE,
)
_PROMQL_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "inf", "nan"}


def metric_names(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads: its names that are neither functions, labels nor keywords."""
    quoted = re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)  # a string may contain brackets
    names = {match["name"] for match in _PROMQL.finditer(quoted) if match["name"]}
    return {name for name in names if name.lower() not in _PROMQL_WORDS}
