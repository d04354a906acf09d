"""A recipe as it is named on the command line: that of the service, or a file with other parameters.

rer                          a recipe of the service
short.json, short.yaml       {"recipe": "rer", "max_response_tokens": 128}: parameters that replace those of a
                             recipe of the service, or of its default recipe without "recipe"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward_client.rows import FileError

_FILES = (".yaml", ".yml", ".json")
_BASE = "recipe"
_NOT_PARAMETERS = ("name", "description")
"""What a recipe file of the service may have besides parameters."""


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """One of the compared recipes."""

    given: str
    """As on the command line."""
    recipe: str | None
    """Of the service; None: its default recipe."""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `RewardClient.score`."""
        return {"recipe": self.recipe, "recipe_overrides": dict(self.overrides) or None}


def recipe_choice(given: str) -> RecipeChoice:
    """The recipe that `given` names. Raises FileError for a file that cannot be used."""
    path = Path(given)
    if path.suffix not in _FILES:
        return RecipeChoice(given, given)
    content = _content(path)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise FileError(f"{path}: parameters of a recipe by name are required, as `max_response_tokens: 128`")
    base = content.pop(_BASE, None)
    if base is not None and not isinstance(base, str):
        raise FileError(f"{path}: {_BASE}: the name of a recipe is required, not {type(base).__name__}")
    overrides = {name: value for name, value in content.items() if name not in _NOT_PARAMETERS}
    if not overrides:
        raise FileError(f"{path} sets no parameter of a recipe")
    return RecipeChoice(given, base, overrides)


def _content(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if path.suffix == ".json" else _yaml(path, text)
    except OSError as exc:
        raise FileError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise FileError(f"{path} cannot be read: {' '.join(str(exc).split())}") from exc


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise FileError(f"{path}: .yaml files need the package PyYAML; or write the parameters as .json") from exc
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ValueError(exc) from exc
