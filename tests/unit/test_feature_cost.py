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


def seconds(recipe: Recipe, request: str, response: str, reference: str) -> dict[str, float]:
    """Time of each text feature, the shorter one of two runs; of a long text, that of one."""
    registry = FeatureRegistry()
    messages = (ChatMessage(role="user", content=request),)
    found: dict[str, float] = {}
    for _ in range(2 if len(response) < LONG // 2 else 1):
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


def assert_linear(shorter: dict[str, float], longer: dict[str, float]) -> None:
    slow = {name: (shorter[name], longer[name]) for name in longer if longer[name] > 8 * shorter[name] + 0.03}
    assert not slow  # four times the text: about four times the time


@pytest.mark.parametrize("pattern", PATTERNS)
def test_time_is_proportional_to_the_response(pattern: str, recipe: Recipe) -> None:
    texts = [f"x\n{pattern * (n // len(pattern))}" for n in (SHORT, LONG)]
    assert_linear(*(seconds(recipe, REQUEST, text, "apples, pears, and 3 km") for text in texts))


@pytest.mark.parametrize("pattern", PATTERNS[::3])
def test_time_is_proportional_to_the_prompt_and_to_the_reference(pattern: str, recipe: Recipe) -> None:
    texts = [pattern * (n // len(pattern)) for n in (SHORT, LONG)]
    assert_linear(*(seconds(recipe, text, text, text) for text in texts))
