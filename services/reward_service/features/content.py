"""What a response contributes in words that carry content, from a list of common words.

content_words    distinct words that are not common; those of the prompt count half
content_density  the same / words, at most 1

Common are the 1,000 words that most answers to different prompts have (`common_words.txt`, made by
`benchmarks.common_words`), and the function words of `languages`. So sentences that fit any subject ("There are
many aspects to consider") contribute nothing to the first and lower the second, and repeated words count once.
Numbers, signs and single letters are not content. Cost: linear in both texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files

from reward_service.features.feature import Feature, Range, RecipeParameters, ResponseText
from reward_service.features.languages import FUNCTION_WORDS
from reward_service.features.text import words

_COMMON = frozenset().union(
    (files(__package__) / "common_words.txt").read_text(encoding="utf-8").split(), *FUNCTION_WORDS.values()
)
_IN_PROMPT = 0.5
"""Weight of a word that is in the prompt: an answer needs some of them, but they are not new."""


def content_words(response: Sequence[str], prompt: Iterable[str]) -> float:
    """Distinct words of `response` that are not common; those of `prompt` count half."""
    found = {word.lower() for word in response if _may_be_content(word)} - _COMMON
    return len(found) - _IN_PROMPT * len(found.intersection(word.lower() for word in prompt))


def content_density(response: Sequence[str], prompt: Iterable[str]) -> float:
    """`content_words` / words; 0 without words."""
    n_words = sum(map(str.isalnum, response))
    return min(1.0, content_words(response, prompt) / n_words) if n_words else 0.0


def _may_be_content(word: str) -> bool:
    return (len(word) > 1 or not word.isascii()) and word[0].isalpha()


def _range(parameters: RecipeParameters) -> Range:
    return 0.0, float(parameters.max_response_tokens)


CONTENT_WORDS = Feature(
    name="content_words",
    needs=ResponseText,
    range=_range,
    label="Content words",
    description="distinct words that are not among the 1,000 most common; words of the prompt count half",
    log_key="content_words",
    compute=lambda inputs: content_words(inputs.words, words(inputs.prompt)),
)

CONTENT_DENSITY = Feature(
    name="content_density",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Content density",
    description="content words / words",
    log_key="content_density",
    compute=lambda inputs: content_density(inputs.words, words(inputs.prompt)),
)
