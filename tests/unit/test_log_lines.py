"""Log lines have the form that docs/operations/logs.md gives to log agents."""

from __future__ import annotations

import logging
import re

import pytest

from reward_service.http.request_context import LOG_FORMAT, RequestIdFilter
from tests.conftest import ROOT

PAGE = (ROOT / "docs/operations/logs.md").read_text(encoding="utf-8")
EXPRESSIONS = re.findall(r"(\^\(\?P?<time>.*?\$)(?='|$)", PAGE, re.MULTILINE)


def line(level: int, message: str, *, failed: bool = False) -> str:
    """What the service writes for a record."""
    cause = (ValueError, ValueError("no number"), None) if failed else None
    record = logging.LogRecord("reward_service.access", level, "file", 1, message, None, cause)
    RequestIdFilter().filter(record)
    return logging.Formatter(LOG_FORMAT).format(record)


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("failed", [False, True])
def test_the_expressions_of_the_page_read_a_record(expression: str, failed: bool) -> None:
    written = line(logging.ERROR, "method=POST route=/score status=200 ms=5.7", failed=failed)
    first_line_only = "(?s:" not in expression
    in_python = expression.replace("(?<", "(?P<").replace(r"\S+) (?P<text>.*)", r"\S+) (?P<text>[^\n]*)")

    found = re.match(in_python.removesuffix("$") if first_line_only else in_python, written)

    assert found is not None
    assert found["level"] == "ERROR"
    assert found["logger"] == "reward_service.access"
    assert found["request_id"] == "-"
    assert found["text"].startswith("method=POST")
    assert ("no number" in found["text"]) == (failed and not first_line_only)


def test_the_page_has_an_expression_for_each_agent() -> None:
    assert len(EXPRESSIONS) == 3


def test_every_record_starts_a_line_that_is_recognised_and_no_traceback_does() -> None:
    written = line(logging.ERROR, "failed", failed=True).splitlines()
    starts = [bool(re.match(r"^\d{4}-\d\d-\d\d ", text)) for text in written]

    assert starts == [True] + [False] * (len(written) - 1)
    assert len(written) > 1
