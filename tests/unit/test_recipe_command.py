"""`glassbox recipes`: list, show, check."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from reward_client.cli.main import main
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry

POINTS = [EntryPoint("service", "reward_service.commands:COMMANDS", "glassbox.commands")]


def recipes(*argv: object) -> int:
    return main(["recipes", *map(str, argv)], POINTS)


def test_every_recipe_is_listed_with_formula_range_and_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes() == 0
    printed = capsys.readouterr().out

    for recipe in RecipeRegistry.load():
        assert f"{recipe.name}  [" in printed
        assert recipe.hash in printed
        assert recipe.formula["closed_ended"] in printed


def test_a_shown_recipe_is_a_recipe_file_with_the_same_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes("show", "rer-reference") == 0

    shown = Recipe.model_validate(yaml.safe_load(capsys.readouterr().out) | {"name": "x"})
    assert shown.hash == RecipeRegistry.load().get("rer-reference").hash


def test_recipes_of_a_folder_are_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("open_ended: [length_incentive]\nclosed_ended: [length_incentive]\n")

    assert recipes("list", "mine", "--recipes-dir", tmp_path) == 0
    assert capsys.readouterr().out.startswith("mine  [0, 5.12]")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (
            "open_ended: [lenght_incentive]\nclosed_ended: [gold]",
            "open_ended.0.feature: unknown feature 'lenght_incent",
        ),
        ("open_ended: [{feature: gold, powr: 2}]\nclosed_ended: [gold]", "did you mean 'power'?"),
        (
            "open_ended: [gold]\nclosed_ended: [gold]\nreward_rang: [0, 1]",
            "reward_rang: unknown parameter; did you mean",
        ),
        ("open_ended: [gold]\nclosed_ended: [gold]", "reward_range is needed, because gold has no bounds"),
        ("open_ended: [gold]", "closed_ended: Field required"),
        ("[gold]", "it has no parameters"),
        ("open_ended: [", "while parsing"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_cause(
    content: str, cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("open_ended: [length_incentive]\nclosed_ended: [length_incentive]\n")
    bad.write_text(content)

    assert recipes("check", bad, good, tmp_path / "missing.yaml") == 1
    printed = capsys.readouterr()
    wrong, missing = printed.err.splitlines()
    assert f"recipe {bad} cannot be used" in wrong
    assert cause in wrong
    assert "missing.yaml" in missing
    assert printed.out.startswith("good  [0, 5.12]")


@pytest.mark.parametrize(
    ("variable", "cause"),
    [
        ("GLASSBOX_MAX_ITEM", "did you mean GLASSBOX_MAX_ITEMS"),
        ("GLASSBOX_MAX_ITEMS", "--max-items (GLASSBOX_MAX_ITEMS)"),
    ],
)
def test_a_wrong_setting_in_the_environment_is_an_error_that_names_it(
    variable: str, cause: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "many")

    assert recipes("check", "any.yaml") == 1
    printed = capsys.readouterr().err
    assert printed.startswith("glassbox recipes: ")
    assert cause in printed


def test_an_unknown_recipe_and_a_check_of_nothing_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes("show", "rerr") == 1
    assert "unknown recipe 'rerr'; did you mean 'rer'?" in capsys.readouterr().err
    assert recipes("check") == 1
