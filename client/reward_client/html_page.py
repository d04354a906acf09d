"""Reports as one HTML page without scripts and external resources, for probe, diff, best-of-n and engineer.

Light and dark, readable on a phone. Every text from outside passes `escape`, and responses pass `shown`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files

_CSS = (files("reward_client") / "html_page.css").read_text(encoding="utf-8")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
MAX_TEXT_CHARS, MAX_VALUE_CHARS = 4_000, 2_000
"""Of a prompt, a reference or a response on a page, and of a setting."""
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {127: "\u2421"}
"""Control characters as the symbols that show them: HTML does not allow them."""


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """The page. `title` is escaped here, `body` is HTML, `style` is CSS after the common one."""
    return "\n".join(_lines(title, body, style))


def _lines(title: str, body: Iterable[str], style: str) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield f"<title>{escape(title)}</title>\n<style>\n{_CSS}{style}</style>\n</head>\n<body>"
    yield from body
    yield "</body>\n</html>\n"


def figure(label: str, value: str, style: str = "") -> str:
    """A number with its meaning, for a row of such figures."""
    return f'<div class="figure"><b class="{style}">{escape(value)}</b>{escape(label)}</div>'


def tables(values: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Settings, each table of names and values folded under its title; what is not text is written as JSON.

    A value is cut after MAX_VALUE_CHARS.
    """
    for title, content in values.items():
        yield f'<details><summary class="one"><span class="name">{escape(title)}</span></summary>'
        yield '<div class="inside"><table>'
        for name, value in content.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"<tr><td>{escape(name)}</td><td>{cut(text, MAX_VALUE_CHARS) if text else ''}</td></tr>"
        yield "</table></div></details>"


def cut(text: str, most: int = MAX_TEXT_CHARS) -> str:
    """`text` as escaped HTML, cut after `most` characters with the number of all."""
    return shown(text[:most] if is_visible(text) else text, len(text))


def is_visible(text: str) -> bool:
    """Whether a reader sees any character of `text`."""
    return any(c.isprintable() and not c.isspace() for c in text)


def shown(text: str, characters: int) -> str:
    """`text`, the beginning of a text with so many characters, as escaped HTML."""
    if not is_visible(text):
        which = "none" if characters == len(text) else f"the first {len(text)} not"
        return f"({characters} characters, {which} visible)"
    more = f" … ({characters} characters)" if characters > len(text) else ""
    return escape(text.translate(_CONTROLS) + more)
