"""The text features of the default recipe take time in proportion to the text, whatever it consists of."""

from __future__ import annotations

from time import thread_time

import pytest

from reward_client.wire import ChatMessage
from reward_service.features.feature import ResponseText
from reward_service.features.recipe import Recipe
from reward_service.features.recipe_registry import RecipeRegistry
from reward_service.features.registry import FeatureRegistry
from reward_service.features.text import words

pytestmark = pytest.mark.slow

REQUEST = "Write a list of five reasons in two sentences, as a table, with Python code."
SHORT, LONG = 25_000, 100_000

PATTERNS = (
    *("word ", "the ", "a,", ".", ". ", "A. ", "\n1. ", "- \n", "\n   - a", "…", '."', "!? ", "\n", " ", "\n "),
    *(
        "user:",
        "\nq : ",
        "\n**",
        "`",
        "```",
        "| a | b |\n",
        "{",
        "[",
        "<a>",
        "5-",
        "5 ",
        "1,000,",
        "1/2 ",
        "1 May 2020 ",
    ),
    *(
        "绿",
        "中文。",
        "ที่และ",
        "\U0001f600",
        "\u200b",
        "a\u0301",
        "\\frac{1}{2} ",
        "not no ",
        "i will now ",
        "write a ",
    ),
)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return RecipeRegistry.load(None).get("glassbox")


def seconds(recipe: Recipe, request: str, response: str, reference: str, n_runs: int) -> dict[str, float]:
    """Time of each text feature, the shortest of `n_runs`."""
    registry = FeatureRegistry()
    messages = (ChatMessage(role="user", content=request),)
    found: dict[str, float] = {}
    for _ in range(n_runs):
        inputs = ResponseText(messages, response, words(response, recipe.words), reference, recipe)
        _ = inputs.prompt_words, inputs.request  # computed once for all features
        for feature in (registry[factor] for factor in recipe_features(recipe)):
            if feature.needs is ResponseText:
                start = thread_time()
                feature.measure(inputs)
                elapsed = thread_time() - start
                found[feature.name] = min(elapsed, found.get(feature.name, elapsed))
    return found


def recipe_features(recipe: Recipe) -> list[str]:
    specs = recipe.open_ended + recipe.closed_ended
    return list(dict.fromkeys(name for spec in specs for name in spec.features))


def assert_linear(recipe: Recipe, shorter: tuple[str, str, str], longer: tuple[str, str, str]) -> None:
    """Four times the text takes about four times the time; what takes longer is measured again."""
    fast = seconds(recipe, *shorter, n_runs=2)
    for n_runs in (1, 2):
        found = seconds(recipe, *longer, n_runs=n_runs)
        slow = {name: (fast[name], found[name]) for name in found if found[name] > 8 * fast[name] + 0.03}
        if not slow:
            return
    pytest.fail(f"seconds for a text, and for four times as much: {slow}")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_time_is_proportional_to_the_response(pattern: str, recipe: Recipe) -> None:
    short, long = (f"x\n{pattern * (n // len(pattern))}" for n in (SHORT, LONG))
    reference = "apples, pears, and 3 km"
    assert_linear(recipe, (REQUEST, short, reference), (REQUEST, long, reference))


@pytest.mark.parametrize("pattern", PATTERNS[::3])
def test_time_is_proportional_to_the_prompt_and_to_the_reference(pattern: str, recipe: Recipe) -> None:
    short, long = (pattern * (n // len(pattern)) for n in (SHORT, LONG))
    assert_linear(recipe, (short, short, short), (long, long, long))
