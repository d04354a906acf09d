"""The features that recipes can use: the built-in ones, and those of installed plug-ins.

A plug-in is any Python package with an entry point in the group `glassbox.features` whose value is a `Feature`:

    [project.entry-points."glassbox.features"]
    format_score = "my_package:FORMAT_SCORE"

Plug-ins are loaded when the service starts. One that cannot be loaded, or that uses a taken name, stops the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from reward_service.errors import ConfigurationError
from reward_service.features.builtin import BUILTIN
from reward_service.features.feature import Feature, FeatureError, Range, RecipeParameters, Similarity
from reward_service.features.text import WordKind

ENTRY_POINT_GROUP = "glassbox.features"

_RESERVED_LOG_KEYS = {
    *("closed_ended", "truncated", "empty"),  # the service's own
    *("reward", "score", "response_length", "total_length", "response_clip_ratio", "return"),  # OpenRLHF's
    *("kl", "logprobs_diff", "group_reward_std", "advantage"),
}


class UnknownFeatureError(ValueError):
    """No feature has this name; the message names the nearest one."""


class FeatureRegistry(Mapping[str, Feature[Any]]):
    """Features by name: built-in ones first, then plug-ins.

    Args:
        plugins: features of plug-ins, each with the package it comes from, as `name version`.

    Raises:
        ConfigurationError: two features have the same name or log key.
    """

    def __init__(self, plugins: Iterable[tuple[Feature[Any], str]] = ()) -> None:
        self._features = {feature.name: feature for feature in BUILTIN}
        self._packages: dict[str, str] = {}
        log_keys = _RESERVED_LOG_KEYS | {feature.log_key for feature in BUILTIN}
        for feature, package in plugins:
            if feature.name in self._features:
                owner = self._packages.get(feature.name, "the service")
                raise _broken(package, f"the feature name {feature.name!r} is already used by {owner}")
            if feature.log_key in log_keys and feature.log_key is not None:
                raise _broken(package, f"the log_key {feature.log_key!r} of {feature.name!r} is already used")
            self._features[feature.name] = feature
            self._packages[feature.name] = package
            log_keys.add(feature.log_key)

    @classmethod
    def load(cls) -> FeatureRegistry:
        """The built-in features and those of all installed plug-ins. Raises ConfigurationError."""
        found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (_package(point), point.name))
        return cls((_loaded(point), _package(point)) for point in found)

    def __getitem__(self, name: str) -> Feature[Any]:
        """The feature `name`. Raises KeyError."""
        return self._features[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def find(self, name: str) -> Feature[Any]:
        """The feature `name`. Raises UnknownFeatureError."""
        feature = self._features.get(name)
        if feature is None:
            hint = did_you_mean(name, self._features)
            raise UnknownFeatureError(f"unknown feature {name!r}; {hint}known: {', '.join(self._features)}")
        return feature

    def package(self, name: str) -> str | None:
        """The package, as `name version`, that the feature `name` comes from; None for a built-in one."""
        return self._packages.get(name)

    def ranges(self, parameters: RecipeParameters) -> dict[str, Range]:
        """Range of every feature under `parameters`. Raises ConfigurationError naming package and cause."""
        return {name: _range(feature, parameters, self.package(name)) for name, feature in self.items()}

    @property
    def packages(self) -> dict[str, str]:
        """Versions of the plug-in packages by name."""
        return dict(package.rsplit(" ", 1) for package in self._packages.values())


_MAX_NAME_CHARS = 100
"""Longer texts are like no name; comparing them would take long."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question whether one of `known` was meant by `name`, before other text; empty when none is similar."""
    near = get_close_matches(name, list(known), n=1) if len(name) <= _MAX_NAME_CHARS else []
    return f"did you mean {near[0]!r}? " if near else ""


@dataclass(frozen=True, slots=True)
class _TypicalParameters:
    max_response_tokens: int = 512
    similarity: Similarity = Similarity.COSINE
    words: WordKind = "unicode"


def _loaded(point: EntryPoint) -> Feature[Any]:
    try:
        feature = point.load()
    except Exception as exc:
        raise _broken(_package(point), f"{point.value} cannot be loaded: {type(exc).__name__}: {exc}") from exc
    if not isinstance(feature, Feature):
        raise _broken(_package(point), f"{point.value} is a {type(feature).__name__}, not a Feature")
    _range(feature, _TypicalParameters(), _package(point))
    return feature


def _range(feature: Feature[Any], parameters: RecipeParameters, package: str | None) -> Range:
    try:
        return feature.bounds(parameters)
    except FeatureError as exc:
        raise _broken(package or "glassbox-reward", str(exc)) from exc


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"


def _broken(package: str, cause: str) -> ConfigurationError:
    return ConfigurationError(f"feature plug-in {package}: {cause}; fix or uninstall the package")
