"""Counts non-standard words in docstrings, comments and documentation, per 1,000 words.

    python -m tools.vocabulary              a table per package; exit status 1 above the limit
    python -m tools.vocabulary --show DIR   every match with its line

The words, each with a reason, are in `vocabulary.toml`. Code is not counted: only what people read.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 3.0
"""Matches per 1,000 words, in every package."""
PACKAGES = (
    "client/reward_client",
    "services/reward_service",
    "trainer/reward_runs",
    "trainer/reward_trainer",
    "trainer/reward_evidence",
    "tools",
    "load",
    "benchmarks",
    "tests",
    "docs",
)
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_FENCED = re.compile(r"^```.*?^```|^(?: {4}|\t).*$", re.MULTILINE | re.DOTALL)


def pattern() -> re.Pattern[str]:
    """One expression of all entries of vocabulary.toml."""
    with Path(__file__).with_name("vocabulary.toml").open("rb") as file:
        groups = tomllib.load(file)
    entries = (entry for group in groups.values() for entry in group)
    return re.compile(r"\b(?:" + "|".join(f"(?:{entry})" for entry in entries) + r")\b", re.IGNORECASE)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of the prose in a Python or Markdown file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blanked = _FENCED.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        yield from enumerate(blanked.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def count(folder: Path, words: re.Pattern[str]) -> tuple[int, list[tuple[Path, int, str]]]:
    """Number of words below `folder`, and each match: file, line, the matched words."""
    total, matches = 0, []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in {".py", ".md"}):
        for line, text in prose(path):
            total += len(_WORD.findall(text))
            matches += [(path, line + text.count("\n", 0, m.start()), m[0]) for m in words.finditer(text)]
    return total, matches


def main() -> int:
    """Print the table; 1 when a package is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", type=Path, metavar="DIR", help="list the matches below this folder")
    arguments = parser.parse_args()
    words = pattern()
    if arguments.show:
        for path, line, found in count(arguments.show, words)[1]:
            sys.stdout.write(f"{path}:{line}: {found}\n")
        return 0
    worst = 0.0
    for name in PACKAGES:
        total, matches = count(ROOT / name, words)
        density = 1e3 * len(matches) / max(total, 1)
        worst = max(worst, density)
        sys.stdout.write(f"{name:28}{len(matches):6} of {total:7} words  {density:5.1f} per 1,000\n")
    if worst > LIMIT:
        sys.stdout.write(f"above {LIMIT:g} per 1,000: python -m tools.vocabulary --show DIR lists the matches\n")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
