"""A reader can take in one function at a glance, and one module in a sitting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    path for name in ("client", "services", "trainer", "tools") for path in sorted((ROOT / name).rglob("*.py"))
]
MAX_FUNCTION = 50
MAX_MODULE = 300


def functions(source: str) -> Iterator[tuple[str, int]]:
    """The name of each function, and its number of lines with the docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_modules_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert source.count("\n") <= MAX_MODULE
    assert {name: lines for name, lines in functions(source) if lines > MAX_FUNCTION} == {}
