"""Fenced blocks of the documentation that a test runs, or writes to a file first.

```sh runnable            the commands are run by a shell, as printed
```jsonl file=NAME        the content of the file NAME, which a later command of the page reads
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks", "with_service"]

_BLOCK = re.compile(r"^( *)```\w+ (?:(runnable)|file=(\S+))\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SERVICE = re.compile(r"(?:http://)?(?:127\.0\.0\.1|localhost|HOST|10\.0\.0\.1):8000")


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    text: str
    file: str | None
    """The file that the block is the content of; None for commands."""


def blocks(page: Path) -> list[Block]:
    """The marked blocks of a page, in order."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(textwrap.dedent(text), name or None) for _, _, name, text in found]


def with_service(text: str, url: str) -> str:
    """The text with the URL of a running service in place of the one that the documentation prints."""
    return _SERVICE.sub(lambda match: url if match[0].startswith("http") else url.removeprefix("http://"), text)
