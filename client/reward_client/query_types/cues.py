"""Features of a prompt that show its query type. Pure; the time is bounded by the characters that are read.

instruction and input     an input text follows `### Input:`, or the first blank line
w:story  b:what is        words and pairs of neighbours in the instruction
first:write               its first word, without "please", "can you" and other polite words
creative_verb, …          cues: lists of words, and the form of the prompt
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from itertools import pairwise

MAX_CHARS = 4_000
"""Characters of a prompt that are read: an instruction is at its beginning."""
_MAX_WORDS = 80
_INPUT = re.compile(r"\n\s*\n|\n#+ *input *:?", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+|[^\w\s]")
_POLITE = re.compile(
    r"^(?:(?:please|kindly|hi|hello|hey|ok|okay|so|now|then|also|"
    r"(?:can|could|would|will) you|i (?:want|need|would like) you to|i'd like you to|help me(?: to)?)\b[\s,.!]*)+",
    re.IGNORECASE,
)
_OPTIONS = re.compile(r"^ *\(?[ABCD][).:] .*^ *\(?[BCD][).:] ", re.MULTILINE | re.DOTALL)
_ARITHMETIC = re.compile(r"\d *[-+*/×÷=^%] *\d|\d *%")
_BLANK = re.compile(r"_{2,}|\.\.\.")
_CODE = re.compile(r"[{};]|\w\([^()]*\)|```|==|\b(?:def|SELECT|import|return)\b")

_CUES: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in json.loads(
        (files("reward_client.query_types") / "cue_words.json").read_text(encoding="utf-8")
    ).items()
}
"""Lists of words by the name of their cue."""
_QUANTITY = frozenset(
    {"many", "much", "long", "far", "old", "tall", "often", "fast", "high", "deep", "heavy", "big"}
)
_FIRST_ONLY = ("creative_verb", "exact_verb")
"""Lists that describe the first word: a verb in the middle of a prompt is often part of its subject."""


def features(prompt: str) -> set[str]:
    """Names of the features that `prompt` has."""
    text = prompt[:MAX_CHARS].strip()
    instruction, *rest = _INPUT.split(text, maxsplit=1)
    body = rest[0].strip() if rest else ""
    words = [word.lower() for word in _WORD.findall(_POLITE.sub("", instruction))[:_MAX_WORDS]]
    found = {f"w:{word}" for word in words if not word.isdigit()}
    found |= {f"b:{first} {second}" for first, second in pairwise(words)}
    if words:
        found.add(f"first:{words[0]}")
    return found | {f"cue:{name}" for name in (*_word_cues(words), *_form_cues(text, words, body))}


def _word_cues(words: list[str]) -> list[str]:
    first, present = words[:1], set(words)
    cues = [name for name, known in _CUES.items() if known & (set(first) if name in _FIRST_ONLY else present)]
    cues += [f"first_{name}" for name, known in _CUES.items() if name not in _FIRST_ONLY and known & set(first)]
    if "how" in present and any(a == "how" and b in _QUANTITY for a, b in pairwise(words)):
        cues.append("quantity")
    return cues


def _form_cues(text: str, words: list[str], body: str) -> list[str]:
    forms = {
        "question": "?" in words,
        "input": bool(body),
        "options": _OPTIONS.search(text) is not None,
        "arithmetic": _ARITHMETIC.search(text) is not None,
        "blank": _BLANK.search(text) is not None,
        "code": _CODE.search(text) is not None,
        "digits": any(word.isdigit() for word in words),
        "quoted": any(word in {'"', "“", "”", "„", "«"} for word in words),
        "short": len(words) <= 8,
        "long": len(words) > 25,
        "long_input": len(body) > 300,
    }
    return [name for name, is_so in forms.items() if is_so]
