"""`running_text`: whether a response consists of sentences, not of keywords, numbers, letters or another language.

The value is the smaller one of a share of function words and of `letter_order`, which is low for words whose
letters are in disorder. The share is min(1, (2 + function words) / (0.2 × words)): half of the words of ordinary
English are function words ("the", "of", "is"), a fifth suffices, and two are granted, so that a short answer needs
none. The words are those of the prompt's language, or of a language that the prompt requests ("Translate into
French"). In prompts about code, code between fences does not count. For a prompt in none of the known languages,
but in another script than Latin, it is the share of the response's letters in that script, 1 from 0.3 on, unless
the prompt requests a translation; 1 for other prompts. Cost: linear in both texts.
"""

from __future__ import annotations

import regex

from reward_service.features.feature import Feature, ResponseText
from reward_service.features.languages import FUNCTION_WORDS, language_of, n_function_words
from reward_service.features.letter_order import latin_letter_order, unspaced_letter_order
from reward_service.features.scripts import share_in_script

_SHARE = 0.2
"""Share of function words from which a text counts as running text."""
_GRANTED = 2
"""Function words that are granted: an answer of ten words needs none."""
_WORD = regex.compile(r"[^\W\d_]+|\d+")
_FENCED = regex.compile(r"```[^`]*(?:```|$)")
_ABOUT_CODE = regex.compile(
    r"```|\b(?:code|function|program|script|query|algorithm|command|regex|class|python|java\w*|sql|html|css|bash|rust"
    r"|json|yaml|c\+\+)\b",
    regex.IGNORECASE,
)
_LANGUAGE_NAME = regex.compile(rf"\b(?:{'|'.join(FUNCTION_WORDS)})\b", regex.IGNORECASE)


def running_text(request: str, response: str) -> float:
    """Share of function words of the language of `request`, 1 from a fifth on."""
    languages = _expected_languages(request)
    if not languages:
        return min(share_in_script(request, response), unspaced_letter_order(response))
    text = _FENCED.sub(" ", response) if _ABOUT_CODE.search(request) else response
    words = _WORD.findall(text.lower())
    n_needed = _SHARE * len(words)
    n_best = max(n_function_words(words, language) for language in languages)
    share = min(1.0, (_GRANTED + n_best) / n_needed) if n_needed else 1.0
    return min(share, latin_letter_order(text), unspaced_letter_order(text))


def _expected_languages(request: str) -> set[str]:
    """The languages that an answer may be written in."""
    named = {name.lower() for name in _LANGUAGE_NAME.findall(request)}
    own = language_of(_WORD.findall(request.lower()))
    return named | {own} if own else named


RUNNING_TEXT = Feature(
    name="running_text",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Running text",
    description="min(1, (2 + function words) / (0.2 × words)), in the prompt's language; letters in order",
    log_key="running_text",
    compute=lambda inputs: running_text(inputs.request, inputs.response),
)
