"""Count non-standard words in docstrings, comments and documentation, per 1,000 words.

    python -m tools.vocabulary              a table by area; exit status 1 when an area is above the limit
    python -m tools.vocabulary --show PATH  every match below PATH, with file and line

The words, each with its reason, are in `vocabulary.toml`. Code is not counted: neither statements nor string
literals in Python, neither fenced nor indented blocks nor `spans` in Markdown.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import signal
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 3.0
"""Matches per 1,000 words, in every area."""
AREAS = {
    "client": ("client/reward_client",),
    "service": ("services/reward_service",),
    "trainer: runs": ("trainer/reward_runs",),
    "trainer: trainer": ("trainer/reward_trainer", "trainer/run.py"),
    "trainer: evidence": ("trainer/reward_evidence",),
    "tools": ("tools",),
    "load": ("load",),
    "benchmarks": ("benchmarks",),
    "examples": ("examples",),
    "tests": ("tests",),
    "docs": ("docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
}
_GENERATED = {"RESULTS.md", "wire_0_1.py"}
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_SPAN = re.compile(r"`[^`\n]*`")


@dataclass
class Count:
    """The words of an area, and those of them that the list excludes."""

    words: int = 0
    matches: list[tuple[Path, int, str]] = field(default_factory=list)
    """File, line, matched words."""

    @property
    def per_thousand(self) -> float:
        """Matches per 1,000 words."""
        return 1e3 * len(self.matches) / max(self.words, 1)


def pattern() -> re.Pattern[str]:
    """One expression of all entries of vocabulary.toml."""
    with Path(__file__).with_name("vocabulary.toml").open("rb") as file:
        groups = tomllib.load(file)
    entries = (entry for group in groups.values() for entry in group)
    return re.compile(r"\b(?:" + "|".join(f"(?:{entry})" for entry in entries) + r")\b", re.IGNORECASE)


def count(path: Path, words: re.Pattern[str]) -> Count:
    """Count the Python and Markdown files at or below `path`; generated results are left out."""
    counted = Count()
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in (f for f in files if f.suffix in {".py", ".md"} and f.name not in _GENERATED):
        text = file.read_text(encoding="utf-8")
        for line, prose in _markdown(text) if file.suffix == ".md" else _python(text):
            plain = _SPAN.sub("", prose)
            counted.words += len(_WORD.findall(plain))
            counted.matches += [
                (file, line + plain.count("\n", 0, m.start()), m[0]) for m in words.finditer(plain)
            ]
    return counted


def _markdown(text: str) -> Iterator[tuple[int, str]]:
    """(line number, text) of every line that is not in a code block."""
    fenced = code = False
    previous = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            indented = line.startswith(("    ", "\t"))
            code = indented and (code or not previous.strip())
            if not code:
                yield number, line
        previous = line


def _python(text: str) -> Iterator[tuple[int, str]]:
    """(line number, text) of every docstring and comment."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def main() -> int:
    """Print the table, or the matches; 1 when an area is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", type=Path, metavar="PATH", help="list the matches below this file or folder")
    arguments = parser.parse_args()
    words = pattern()
    if arguments.show:
        for path, line, found in count(arguments.show, words).matches:
            sys.stdout.write(f"{path}:{line}: {found}\n")
        return 0
    above = False
    for area, paths in AREAS.items():
        counts = [count(ROOT / path, words) for path in paths if (ROOT / path).exists()]
        total = Count(sum(c.words for c in counts), [match for c in counts for match in c.matches])
        above |= total.per_thousand > LIMIT
        found = f"{len(total.matches):5} of {total.words:6} words"
        sys.stdout.write(f"{area:20}{found}  {total.per_thousand:5.1f} per 1,000\n")
    if above:
        sys.stdout.write(f"above {LIMIT:g} per 1,000; python -m tools.vocabulary --show PATH lists the matches\n")
    return int(above)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… --show docs | head` ends quietly
    sys.exit(main())
