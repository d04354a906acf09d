"""Keys of prompts: by which a prompt that arrives is found in a data set, in whatever form it arrives.

    text, message list or rendered prompt ─▶ messages ─▶ user turns ─▶ normalised ─▶ JSON list ─▶ BLAKE2b

Only the user turns count. Chat templates and trainers add, replace and drop system turns, and templates drop the
reasoning of earlier assistant turns; the user turns arrive unchanged. All of them count: the last one alone
("Explain that.") is not specific. They are also what the encoder reads of a prompt.

Normalised means: Unicode NFC, line ends as line feeds, no white space at the ends of a turn. White space inside a
turn counts, because it is part of a program or of a table. A turn with more than 30 combining marks in a row is
not stream-safe text (UAX #15) and keeps its form: the time to sort n marks is proportional to n squared.

A row with a system turn has two more keys, because some templates (Gemma 1 to 3, Mistral v1 to v3) write the
system turn into the first or the last user turn, with a blank line between them.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import regex

from reward_client.wire import ChatMessage

_SYSTEM = frozenset({"system", "developer"})
_BYTES = 16
"""Length of a key: two of a million different prompts have the same one with a probability of 1e-27."""
_MANY_MARKS = regex.compile(r"\p{M}{31}")


def prompt_key(messages: Sequence[ChatMessage]) -> bytes:
    """The key that a prompt is looked up by."""
    return _key(_turns(messages))


def row_keys(messages: Sequence[ChatMessage]) -> list[bytes]:
    """The keys that a prompt of a data set is stored under."""
    turns = _turns(messages)
    keys = [_key(turns)]
    system = "\n\n".join(_normalised(message.content) for message in messages if message.role in _SYSTEM)
    if system and turns:
        keys += [_key([f"{system}\n\n{turns[0]}", *turns[1:]]), _key([*turns[:-1], f"{system}\n\n{turns[-1]}"])]
    return list(dict.fromkeys(keys))


def _turns(messages: Sequence[ChatMessage]) -> list[str]:
    return [_normalised(message.content) for message in messages if message.role == "user"]


def _normalised(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return text if text.isascii() or _MANY_MARKS.search(text) else unicodedata.normalize("NFC", text)


def _key(turns: Sequence[str]) -> bytes:
    return blake2b(json.dumps(turns).encode(), digest_size=_BYTES).digest()
