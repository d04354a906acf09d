"""What a response contributes in words that carry content, from a list of common words.

content_words    distinct words by their weights: rare 1, common 0.3, very common 0; half of that if in the prompt
content_density  weights of the words, each at most once in 20, / words, at most 1

Very common are the 300 words that the answers to most prompts have, and the function words of `languages`;
common are the next 1,700 (`common_words.txt`, made by `benchmarks.common_words`). So sentences that fit any
subject ("There are many aspects to consider") contribute little to the first and lower the second. A repeated
word counts once in the first. In the second it counts again after 20 words, and words of the prompt count fully,
because an answer stays on its subject, and padding does not. Numbers, signs and single Latin letters are not
content. Cost: linear in both texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from math import fsum

from reward_service.features.feature import Feature, Range, RecipeParameters, ResponseText
from reward_service.features.languages import FUNCTION_WORDS

COMMON_WORDS = (files(__package__) / "common_words.txt").read_text(encoding="utf-8").split()
_N_VERY_COMMON = 300
_COMMON_WEIGHT = 0.3
_WEIGHTS = (
    dict.fromkeys(COMMON_WORDS, _COMMON_WEIGHT)
    | dict.fromkeys(COMMON_WORDS[:_N_VERY_COMMON], 0.0)
    | dict.fromkeys(frozenset().union(*FUNCTION_WORDS.values()), 0.0)
)
_IN_PROMPT = 0.5
"""Factor for a word that is in the prompt: an answer needs some of them, but they are not new."""
_AGAIN_AFTER = 20
"""Words after which a repeated word counts again in the density: about a sentence."""


def content_words(response: Sequence[str], prompt: Iterable[str]) -> float:
    """Sum of the weights of the distinct words of `response`."""
    known = set(_parts(prompt))
    found = filter(_is_content, set(_parts(response)))
    return fsum(_WEIGHTS.get(word, 1.0) * (_IN_PROMPT if word in known else 1.0) for word in found)


def content_density(response: Sequence[str]) -> float:
    """Weights of the words of `response` / words; 0 without words."""
    n_words = sum(word[0].isalnum() for word in response)
    total, last = 0.0, dict[str, int]()
    for position, word in enumerate(_parts(response)):
        weight = _WEIGHTS.get(word, 1.0)
        if weight and _is_content(word):
            if position - last.get(word, -_AGAIN_AFTER - 1) > _AGAIN_AFTER:
                total += weight
            last[word] = position
    return min(1.0, total / n_words) if n_words else 0.0


def _is_content(word: str) -> bool:
    return word[0].isalpha() and (len(word) > 1 or not word.isascii())


def _parts(words: Iterable[str]) -> list[str]:
    """`words` in lower case, divided at apostrophes: "don't" has no more content than "do not"."""
    return " ".join(words).lower().replace("’", " ").replace("'", " ").split()


def _range(parameters: RecipeParameters) -> Range:
    return 0.0, float(parameters.max_response_tokens)


CONTENT_WORDS = Feature(
    name="content_words",
    needs=ResponseText,
    range=_range,
    label="Content words",
    description="distinct words by rarity (1, 0.3 or 0), half in the prompt",
    log_key="content_words",
    compute=lambda inputs: content_words(inputs.words, inputs.prompt_words),
)

CONTENT_DENSITY = Feature(
    name="content_density",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Content density",
    description="words by rarity (1, 0.3 or 0), each once in 20, / words",
    log_key="content_density",
    compute=lambda inputs: content_density(inputs.words),
)
