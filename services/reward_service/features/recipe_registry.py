"""The recipes of a service: those of the package, and those in the operator's folder, which replace them by name.

A recipe's name is only looked up here; it is never used as a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reward_client.wire import FieldError
from reward_service.errors import ConfigurationError, InvalidRequestError, TooLargeError
from reward_service.features.recipe import Recipe
from reward_service.features.registry import FeatureRegistry, did_you_mean
from reward_service.settings import Settings

_MAX_DEPTH = 5
"""Levels of nesting in overrides: the ends of a gate in the `otherwise` of a factor are the deepest."""
PARAMETERS = tuple(name for name in Recipe.model_fields if name not in ("name", "description"))
"""What a request may override."""


class RecipeRegistry:
    """Recipes by name, in alphabetical order. `limits` are those of stop strings and overrides."""

    def __init__(self, recipes: Mapping[str, Recipe], limits: Settings | None = None) -> None:
        self._recipes = dict(sorted(recipes.items()))
        self._limits = limits or Settings()

    @classmethod
    def load(
        cls, folder: Path | None = None, features: FeatureRegistry | None = None, limits: Settings | None = None
    ) -> RecipeRegistry:
        """The package's recipes and those in `folder` (`NAME.yaml`). Raises ConfigurationError.

        `features` are those that the recipes may use; the built-in ones when None.
        """
        limits = limits or Settings()
        sources: list[Traversable] = list(_yaml_files(files("reward_service.features") / "recipes"))
        if folder is not None:
            if not folder.is_dir():
                raise ConfigurationError(f"recipes_dir {folder} is not a folder")
            sources += _yaml_files(folder)
        recipes = (read_recipe(source, features, limits) for source in sources)
        return cls({recipe.name: recipe for recipe in recipes}, limits)

    def __iter__(self) -> Iterator[Recipe]:
        return iter(self._recipes.values())

    def get(self, name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe `name` with `overrides` applied. Raises InvalidRequestError, or TooLargeError."""
        recipe = self._recipes.get(name)
        if recipe is None:
            known = ", ".join(self._recipes)
            hint = did_you_mean(name, self._recipes).rstrip() or f"known: {known}"
            raise InvalidRequestError(
                f"unknown recipe {name!r}; {hint}",
                [FieldError(field="recipe", message=f"unknown; known recipes: {known}")],
            )
        if not overrides:
            return recipe
        _check_size(overrides, self._limits)
        return _overridden(recipe, overrides, self._limits)


def _yaml_files(folder: Traversable) -> Iterator[Traversable]:
    return (entry for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_recipe(source: Traversable, features: FeatureRegistry | None, limits: Settings) -> Recipe:
    """The recipe in a file. Raises ConfigurationError with a sentence for each cause."""
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ConfigurationError(
                f"recipe {source} cannot be used: it has no parameters, like `open_ended: […]`"
            )
        recipe = Recipe.model_validate(content | {"name": source.name.removesuffix(".yaml")}, context=features)
        _check_stop_strings(recipe.stop_strings, limits)
    except ValidationError as exc:
        causes = "; ".join(": ".join(filter(None, error)) for error in _causes(exc))
        raise ConfigurationError(f"recipe {source} cannot be used: {causes}") from exc
    except (yaml.YAMLError, OSError, UnicodeError, TooLargeError) as exc:
        raise ConfigurationError(f"recipe {source} cannot be used: {' '.join(str(exc).split())}") from exc
    return recipe


def _causes(exc: ValidationError) -> Iterator[tuple[str, str]]:
    """(path of the parameter, message) of each error; the path of an error of the whole recipe is empty."""
    for error in exc.errors():
        path, message = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            known = [*PARAMETERS, "description"]
            message = f"unknown parameter; {did_you_mean(path, known)}known: {', '.join(known)}"
        yield path, message


def _check_size(overrides: Mapping[str, Any], limits: Settings) -> None:
    """Raise TooLargeError at the first parameter with which `overrides` are over a limit."""
    n_values = n_chars = 0
    for key, parameter in overrides.items():
        for value, depth in _values(parameter):
            n_values += 1
            n_chars += len(value) if isinstance(value, str) else 0
            if depth > _MAX_DEPTH:
                raise _too_large(key, f"is nested more than {_MAX_DEPTH} levels deep")
            if n_values > limits.max_override_values:
                raise _too_large(key, f"brings the overrides to more than {limits.max_override_values} values")
            if n_chars > limits.max_override_chars:
                raise _too_large(key, f"brings the overrides to more than {limits.max_override_chars} characters")


def _values(value: Any, depth: int = 1) -> Iterator[tuple[Any, int]]:
    """(value, depth) of `value` and of everything in it; keys are values too."""
    yield value, depth
    if isinstance(value, dict):
        for key, child in value.items():
            yield key, depth
            yield from _values(child, depth + 1)
    elif isinstance(value, list):
        for child in value:
            yield from _values(child, depth + 1)


def _check_stop_strings(stop_strings: Sequence[str], limits: Settings) -> None:
    """Raise TooLargeError; every stop string is searched in every response."""
    if len(stop_strings) > limits.max_stop_strings:
        raise _too_large(
            "stop_strings", f"has {len(stop_strings)} entries, at most {limits.max_stop_strings} are allowed"
        )
    for i, text in enumerate(stop_strings):
        if len(text) > limits.max_stop_string_chars:
            message = f"has {len(text)} characters, at most {limits.max_stop_string_chars}"
            raise _too_large(f"stop_strings.{i}", f"{message} are allowed")


def _too_large(parameter: str, message: str) -> TooLargeError:
    return TooLargeError(
        f"{parameter} {message}", [FieldError(field=f"recipe_overrides.{parameter}", message=message)]
    )


def _overridden(recipe: Recipe, overrides: Mapping[str, Any], limits: Settings) -> Recipe:
    unknown = sorted(set(overrides) - set(PARAMETERS))
    if unknown:
        raise InvalidRequestError(
            f"recipe {recipe.name!r} has no parameter {', '.join(map(repr, unknown))}",
            [
                FieldError(
                    field=f"recipe_overrides.{key}",
                    message=f"unknown; {did_you_mean(key, PARAMETERS)}known: {', '.join(PARAMETERS)}",
                )
                for key in unknown
            ],
        )
    try:
        overridden = recipe.with_overrides(overrides)
    except ValidationError as exc:
        errors = [
            FieldError(field=".".join(filter(None, ("recipe_overrides", path))), message=message)
            for path, message in _causes(exc)
        ]
        raise InvalidRequestError("recipe_overrides cannot be used", errors) from exc
    _check_stop_strings(overridden.stop_strings, limits)
    return overridden
