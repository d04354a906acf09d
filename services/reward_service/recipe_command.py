"""`glassbox recipes`: lists the recipes of an installation, shows one, or checks recipe files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from reward_client.cli.options import file_path
from reward_service.errors import GlassboxError
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry, read_recipe
from reward_service.features.registry import FeatureRegistry
from reward_service.settings import Settings

_EPILOG = """\
A recipe file is checked as `glassbox serve --recipes-dir` checks it when it starts.

examples:
  glassbox recipes                              every recipe with its formula, range of rewards and hash
  glassbox recipes show rer                     all parameters of one recipe, as a recipe file has them
  glassbox recipes check recipes/*.yaml         what is wrong with these files; exit status 1 if anything is
  glassbox recipes --recipes-dir recipes        those of a folder too
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "List, show and check recipes.", _EPILOG
    parser.add_argument(
        "action", nargs="?", choices=["list", "show", "check"], default="list", help="(default: list)"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes to show, or files to check")
    parser.add_argument(
        "--recipes-dir", type=file_path, metavar="DIR", help="folder with further recipes (NAME.yaml)"
    )


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print what was asked for; return the exit status."""
    try:
        features, limits = FeatureRegistry.load(), Settings(recipes_dir=arguments.recipes_dir)
        if arguments.action == "check":
            return _check([Path(name) for name in arguments.names], features, limits)
        recipes = RecipeRegistry.load(limits.recipes_dir, features, limits)
        for recipe in [recipes.get(name) for name in arguments.names] or recipes:
            print("\n".join(_shown(recipe) if arguments.action == "show" else _listed(recipe)))
    except GlassboxError as exc:
        return _failed(str(exc))
    return 0


def _check(files: Sequence[Path], features: FeatureRegistry, limits: Settings) -> int:
    status = 0
    for file in files:
        try:
            print("\n".join(_listed(read_recipe(file, features, limits))))
        except GlassboxError as exc:
            status = _failed(str(exc))
    return status if files else _failed("name the files to check")


def _failed(message: str) -> int:
    print(f"glassbox recipes: {message}", file=sys.stderr)
    return 1


def _listed(recipe: Recipe) -> Iterator[str]:
    low, high = recipe.bounds()
    yield f"{recipe.name}  [{low:g}, {high:g}]  {recipe.hash}"
    for query_type, formula in recipe.formula.items():
        yield f"  {query_type:<12}  {formula}"


def _shown(recipe: Recipe) -> Iterator[str]:
    yield from (f"# {line}" for line in _listed(recipe))
    for name, value in recipe.model_dump(mode="json", exclude={"name"}).items():
        yield f"{name}: {json.dumps(value, ensure_ascii=False)}"  # JSON values are YAML
