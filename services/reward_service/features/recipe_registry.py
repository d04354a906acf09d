"""The recipes of a service: those of the package, and those in the operator's folder, which replace them by name.

A recipe's name is only looked up here; it is never used as a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reward_client.wire import FieldError
from reward_service.errors import ConfigurationError, InvalidRequestError
from reward_service.features.recipe import Recipe
from reward_service.features.registry import FeatureRegistry

__all__ = ["RecipeRegistry"]


class RecipeRegistry:
    """Recipes by name, in alphabetical order."""

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = dict(sorted(recipes.items()))

    @classmethod
    def load(cls, folder: Path | None = None, features: FeatureRegistry | None = None) -> RecipeRegistry:
        """The package's recipes and those in `folder` (`NAME.yaml`). Raises ConfigurationError.

        `features` are those that the recipes may use; the built-in ones when None.
        """
        sources: list[Traversable] = list(_yaml_files(files("reward_service.features") / "recipes"))
        if folder is not None:
            if not folder.is_dir():
                raise ConfigurationError(f"recipes_dir {folder} is not a folder")
            sources += _yaml_files(folder)
        recipes = (_read(source, features) for source in sources)
        return cls({recipe.name: recipe for recipe in recipes})

    def __iter__(self) -> Iterator[Recipe]:
        return iter(self._recipes.values())

    def get(self, name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe `name` with `overrides` applied. Raises InvalidRequestError."""
        recipe = self._recipes.get(name)
        if recipe is None:
            known = ", ".join(self._recipes)
            raise InvalidRequestError(
                f"unknown recipe {name!r}; known: {known}",
                [FieldError(field="recipe", message=f"unknown; known recipes: {known}")],
            )
        return _overridden(recipe, overrides) if overrides else recipe


def _yaml_files(folder: Traversable) -> Iterator[Traversable]:
    return (entry for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _read(source: Traversable, features: FeatureRegistry | None) -> Recipe:
    name = source.name.removesuffix(".yaml")
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8")) | {"name": name}
        return Recipe.model_validate(content, context=features)
    except (yaml.YAMLError, ValidationError, TypeError) as exc:
        raise ConfigurationError(f"recipe {source} cannot be used: {exc}") from exc


def _overridden(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    fixed = {"name", "description"}
    unknown = sorted(set(overrides) - (set(Recipe.model_fields) - fixed))
    if unknown:
        known = ", ".join(sorted(set(Recipe.model_fields) - fixed))
        raise InvalidRequestError(
            f"recipe {recipe.name!r} has no parameter {', '.join(map(repr, unknown))}",
            [FieldError(field=f"recipe_overrides.{key}", message=f"unknown; known: {known}") for key in unknown],
        )
    try:
        return recipe.with_overrides(overrides)
    except ValidationError as exc:
        errors = [
            FieldError(field=".".join(map(str, ("recipe_overrides", *e["loc"]))), message=e["msg"])
            for e in exc.errors()
        ]
        raise InvalidRequestError("recipe_overrides cannot be used", errors) from exc
