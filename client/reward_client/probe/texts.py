"""Small operations on text that the kinds share: words, sentences, keywords, filling up to a length.

Scripts without spaces (Chinese, Japanese, Thai) are handled by character, so that every operation has an effect
there too. All of them take linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from random import Random

from reward_client.probe.case import phrases

MAX_UNITS = 2_000
"""Words of a generated text at most, so that a very long good answer does not give unusable ones."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts without spaces: Thai, Lao, Burmese, Khmer, kana, Chinese characters."""
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*(?=\S)|\n+")
_DECIMAL_OR_LIST = re.compile(r"\d[.]$")
_WORD = re.compile(r"\w+")


def is_unspaced(text: str) -> bool:
    """Whether `text` is mainly in a script that puts no spaces between words."""
    return 3 * len(_UNSPACED.findall(text)) > len(text)


def units(text: str) -> list[str]:
    """Words, with their punctuation, or characters where the script has no spaces."""
    return [c for c in text if not c.isspace()] if is_unspaced(text) else text.split()


def joined(parts: Iterable[str], like: str) -> str:
    """`parts` with the separator of the script of `like`."""
    return ("" if is_unspaced(like) else " ").join(parts)


def sentences(text: str) -> list[str]:
    """Sentences and lines of `text`, without empty ones. A decimal point or a list number ends no sentence."""
    found: list[str] = []
    for piece in filter(None, (part.strip() for part in _SENTENCE_END.split(text))):
        if found and _DECIMAL_OR_LIST.search(found[-1]):
            found[-1] = f"{found[-1]}{'' if piece[0].isdigit() else ' '}{piece}"
        else:
            found.append(piece)
    return found


def first_sentence(text: str) -> str:
    """The first sentence, or all of `text` if it has only one."""
    found = sentences(text)
    return found[0] if found else text


def keywords(text: str, at_most: int = 12) -> list[str]:
    """Distinct words of `text` that carry content, in order; chunks of characters in scripts without spaces."""
    if is_unspaced(text):
        compact = "".join(_WORD.findall(text))
        return [compact[i : i + 3] for i in range(0, len(compact), 3)][:at_most] or [text.strip()]
    words = dict.fromkeys(word.lower() for word in _WORD.findall(text))
    content = [word for word in words if len(word) > 3 and word not in phrases("stop_words")]
    return (content or list(words) or [text.strip()])[:at_most]


def topic(prompt: str) -> str:
    """The first keywords of `prompt`, as a phrase that can be put into a sentence."""
    found = keywords(prompt, 3)
    return joined(found, prompt) if is_unspaced(prompt) else " ".join(found)


def fill(parts: Sequence[str], n_units: int, separator: str = " ") -> str:
    """As many of `parts` as reach `n_units` words, at least one; from the start again when they are used up."""
    return separator.join(_taken(cycle(parts), n_units))


def without_repeats(parts: Sequence[str], n_units: int, random: Random, separator: str = " ") -> str:
    """Some of `parts` in random order, with about `n_units` words; all of them if they have fewer."""
    return separator.join(_taken(random.sample(parts, len(parts)), n_units))


def _taken(parts: Iterable[str], n_units: int) -> Iterator[str]:
    length, most = 0, min(n_units, MAX_UNITS)
    for part in parts:
        yield part
        length += max(1, len(units(part)))
        if length >= most:
            return
