"""`requested_form`: the share of the requested forms that the response has; 1 when none is requested.

| requested                                      | the response has it if                                       |
|------------------------------------------------|--------------------------------------------------------------|
| "bullet points", "as a list", "numbered list"  | at least two lines start with a mark or a number             |
| "as a table", "in table format"                | at least two lines have two vertical bars, or two tabs       |
| "in JSON", "a JSON object"                     | the text, or its first fenced block, is a JSON value         |
| "write a function / program / query in …"      | a fenced block, or a line that reads like code               |

English requests only. Cost: linear in the response; of a long prompt only both ends are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice

import regex

from reward_service.features.feature import Feature, ResponseText

_ITEM = regex.compile(r"^[ \t]*(?:[-*•–+]|\d{1,3}[.)]|[a-zA-Z][.)])[ \t]+\S", regex.MULTILINE)
_NUMBERED = regex.compile(r"^[ \t]*\d{1,3}[.)][ \t]+\S", regex.MULTILINE)
_ROW = regex.compile(r"^[^|\t\n]*(?:\|[^|\n]*\||\t[^\t\n]*\t)", regex.MULTILINE)
_FENCED = regex.compile(r"```[^\n`]*\n([^`]*)```")
_KEYWORD = (
    "def|class|import|from|for|while|if|return|print|function|const|let|var|public|#include|SELECT|UPDATE|INSERT"
)
_STATEMENT = regex.compile(rf"(?:{_KEYWORD})\b.*[\w):;{{}}*]\Z|[\w.]+(?:\[[^\]]*\])?\s*=\s*\S|[\w.]+\(.*\)\Z")
_LINE_CHARS = 300
"""Characters of a line of code that are read."""


def _at_least_two(pattern: regex.Pattern[str], text: str) -> bool:
    return len(list(islice(pattern.finditer(text), 2))) == 2


def _is_json(text: str) -> bool:
    block = _FENCED.search(text)
    try:
        json.loads(block[1] if block else text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_code(text: str) -> bool:
    return bool(_FENCED.search(text)) or any(map(_is_code_line, text.splitlines()))


def _is_code_line(line: str) -> bool:
    line = line.strip()
    return line[-1:] in tuple(";{}") or bool(_STATEMENT.match(line[:_LINE_CHARS]))


_FORMS: tuple[tuple[regex.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (regex.compile(rf"\b(?:{request})\b", regex.IGNORECASE), has_form)
    for request, has_form in (
        (r"numbered list|(?:as|in) numbered (?:steps|points)", lambda text: _at_least_two(_NUMBERED, text)),
        (
            r"bullet(?:ed)?[ -](?:points?|list)|in bullets|as bullets|(?:as|in|into) (?:a|list) (?:list|form)\w*",
            lambda text: _at_least_two(_ITEM, text),
        ),
        (
            r"(?:as|in|into|make|create|write) a (?:\w+ )?table|table format|tabular form\w*",
            lambda text: _at_least_two(_ROW, text),
        ),
        (r"(?:in|as|into|valid|return|output|only) json|json (?:object|array|format)", _is_json),
        (
            r"(?:write|create|give me|show me|implement) (?:\w+ ){1,3}?(?:function|program|script|query|class)",
            _is_code,
        ),
    )
)


def requested_form(instruction: str, response: str) -> float:
    """Share of the forms requested by `instruction` that `response` has; 1 when it requests none."""
    requested = [has_form for request, has_form in _FORMS if request.search(instruction)]
    return sum(has_form(response) for has_form in requested) / len(requested) if requested else 1.0


REQUESTED_FORM = Feature(
    name="requested_form",
    needs=ResponseText,
    range=(0.0, 1.0),
    label="Requested form",
    description="share of the requested forms (list, table, JSON, code) that the response has",
    log_key="requested_form",
    compute=lambda inputs: requested_form(inputs.request, inputs.response),
)
