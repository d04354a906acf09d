"""Whether a prompt asks for a brief answer, by a stated rule for English.

It does when it requests at most three sentences, at most 60 words, one line or "a few words", or says "briefly",
"short answer", "keep it short", "concise" and the like. A number needs a word before it that requests ("in",
"within", "answer with", "about"), or begins a sentence: "list 20 words" and "at least two sentences" are no such
requests. Only the first and last thousand characters are read, because requests are written before or after the
material.
"""

import re

_EDGE_CHARS = 1000
_REQUESTS = (
    r"(?:in|into|to|with|within|of|only|just|exactly|about|around|roughly|under|below|at most|no more than"
    r"|less than|fewer than|up to|maximum|max|(?:write|give|use|provide)(?: me)?)(?: about| around)? "
)
_SMALL = r"(?:an?|one|two|three|[1-3])"
_NUMBER = (
    r"(?:[1-5]?\d|60|one|two|three|five|ten|fifteen|twenty|thirty|forty|fifty|sixty"
    r"|a few|a couple of|a handful of)"
)
_BRIEF = re.compile(
    r"\b(?:briefly|concise(?:ly)?|succinct(?:ly)?|in brief|in short|one-(?:line|word|sentence)"
    r"|(?:be|keep (?:it|this|your \w+)|stay) (?:brief|short)"
    r"|(?:brief|short) (?:answer|reply|response|reason|note|explanation|summary|description)s?"
    rf"|(?<!at least )(?:{_REQUESTS}|(?<=[.!?:]\s))(?:{_SMALL} (?:or|to) )?{_SMALL}"
    r"(?:[ -](?:single|short|simple|clear))*[ -]sentences?"
    rf"|{_REQUESTS}{_NUMBER}(?: single)? words?"
    rf"|{_NUMBER}-words?"
    rf"|{_REQUESTS}(?:a|one|a single) lines?)\b",
    re.IGNORECASE,
)


def asks_for_brevity(prompt: str) -> bool:
    """Whether `prompt` asks for a brief answer."""
    text = prompt if len(prompt) <= 2 * _EDGE_CHARS else f"{prompt[:_EDGE_CHARS]}\n{prompt[-_EDGE_CHARS:]}"
    return _BRIEF.search(text) is not None
