"""Reads JSON from UTF-8 a piece at a time, so that no call takes long however long a body, or a value in it, is.

A value that is complete within a piece is decoded in one call, and a longer one member by member. Both find the
same mistakes: repeated keys, too many keys, half of a surrogate pair, text that is not JSON.
"""

import json
import re
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Iterator
from functools import partial
from mmap import mmap
from typing import Any, NoReturn

from reward_client.wire import MAX_LIST
from reward_service.batching import Steps
from reward_service.settings import Settings

PIECE_BYTES = 32 * 1024
"""Bytes of UTF-8 that are decoded in one call; a call may hold the interpreter's lock for a millisecond."""
_MAX_DEPTH = 200
"""Levels of nesting below the body's object, as many as pydantic allows."""
_ESCAPED_CHARS = 12
"""Most characters that JSON needs for one: two escapes for the halves of a surrogate pair."""

Path = tuple[int | str, ...]
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*(?=[^ \t\n\r])")
_HALF_A_PAIR = "an unpaired surrogate, which is not valid Unicode text"
_PARTIAL = object()
_TOO_DEEP = f"is nested more than {_MAX_DEPTH} levels deep"


class RefusedValueError(Exception):
    """The value at `path` cannot be read, nor what follows it."""

    def __init__(self, path: Path, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.too_large = too_large


class _BadObject(list[tuple[str, Any]]):
    """The members of an object with a repeated key, or with too many."""


class JsonReader:
    """Reads values one after the other.

    `limits` are `max_object_keys`, `max_key_chars`, `max_text_chars` and `max_values`.
    """

    def __init__(self, body: bytes | bytearray | mmap, limits: Settings) -> None:
        self.suspicions: list[str] = []
        """Why `mistakes` may find some in the values read since it was last cleared."""
        self._body = memoryview(body)
        self._limits = limits
        self._n_values = 0
        # Not a method: the decoder would keep this object, and the body, until the next garbage collection.
        self._object_of = partial(_object_of, limits, self.suspicions)
        self._raw_decode = json.JSONDecoder(object_pairs_hook=self._object_of).raw_decode
        self._decoder = getincrementaldecoder("utf-8")()
        self._n_decoded = 0
        self._n_dropped = 0
        self._text = ""
        self._position = 0

    def value(self, path: Path) -> Steps[Any]:
        """The value at the position. Raises RefusedValueError."""
        value = self._whole(path)
        if value is not _PARTIAL:
            return value
        yield
        if len(path) > _MAX_DEPTH:
            raise RefusedValueError(path[:1], _TOO_DEEP)
        if self.next_is("["):
            elements: list[Any] = []
            for index in self.indexes(path):
                elements += [(yield from self.value((*path, index)))]
                yield
            return elements
        if self.next_is("{"):
            pairs: list[tuple[str, Any]] = []
            for key in self.keys(path):
                pairs += [(key, (yield from self.value((*path, key))))]
                yield
            return self._object_of(pairs)
        return self._scalar(path)

    def indexes(self, path: Path) -> Iterator[int]:
        """For each element of the array at the position its index; the caller reads the element."""
        yield from self._members(path, "[", "]", range(MAX_LIST), f"has more than {MAX_LIST} elements")

    def keys(self, path: Path) -> Iterator[str]:
        """For each member of the object at the position its key; the caller reads the value."""
        most = self._limits.max_object_keys
        for _ in self._members(path, "{", "}", range(most), f"has more than {most} keys"):
            if not self.next_is('"'):
                self._fail("a key is missing")
            key: str = self._scalar(path)
            if len(key) > self._limits.max_key_chars:
                raise RefusedValueError(path, long_key(self._limits), too_large=True)
            self._expect(":")
            yield key

    def next_is(self, character: str) -> bool:
        """Whether `character` comes next, after space."""
        while space := _SPACE.match(self._text, self._position):
            self._position = space.end()
            if self._position < len(self._text) or not self._extend():
                break
        return self._text.startswith(character, self._position)

    def expect_end(self) -> None:
        """Raise RefusedValueError if more than space follows."""
        self.next_is("")
        if self._position < len(self._text):
            self._fail("text after the end")

    def _members(self, path: Path, start: str, end: str, numbers: range, message: str) -> Iterator[int]:
        self._expect(start)
        if self.next_is(end):
            self._expect(end)
            return
        for number in numbers:
            yield number
            if comma := _COMMA.match(self._text, self._position):
                self._position = comma.end()
            elif self.next_is(end):
                self._expect(end)
                return
            else:
                self._expect(",")
        raise RefusedValueError(path, message, too_large=True)

    def _whole(self, path: Path) -> Any:
        """The value at the position, or `_PARTIAL` if it is wrong or does not end in this piece."""
        while True:
            try:
                value, end = self._raw_decode(self._text, self._position)
            except (ValueError, RecursionError):
                if len(self._text) - self._position < PIECE_BYTES and self._extend():
                    continue
                return _PARTIAL
            cut = isinstance(value, (int, float)) and len(self._text) - end <= len("e+")
            if not cut or not self._extend():  # a number may continue in the next piece
                break
        start, self._position = self._position, end
        self._add_values(1, path)
        if self._text.find("\\ud", start, end) >= 0 or self._text.find("\\uD", start, end) >= 0:
            self.suspicions.append("surrogate")
        if isinstance(value, (dict, list)):
            self._count(value, path, _MAX_DEPTH - max(0, len(path) - 1))
        return value

    def _count(self, value: Any, path: Path, levels: int) -> None:
        """Check that `value` has at most `levels` nested arrays and objects, and count the values in it."""
        if levels <= 0:
            raise RefusedValueError(path, _TOO_DEEP)
        self._add_values(len(value), path)
        children = value.values() if isinstance(value, dict) else value
        for child in children:
            if isinstance(child, (dict, list)):
                self._count(child, path, levels - 1)

    def _add_values(self, n: int, path: Path) -> None:
        self._n_values += n
        if self._n_values > self._limits.max_values:
            message = f"brings the values of the body to more than {self._limits.max_values}, which is the limit"
            raise RefusedValueError(path, message, too_large=True)

    def _scalar(self, path: Path) -> Any:
        """A string, number or name, however long."""
        self.next_is("")
        while (value := self._whole(path)) is _PARTIAL:
            if len(self._text) - self._position > _ESCAPED_CHARS * self._limits.max_text_chars:
                message = f"has more than {self._limits.max_text_chars} characters, which is the limit"
                raise RefusedValueError(path, message, too_large=True)
            if not self._extend():
                self._fail()
        return value

    def _expect(self, character: str) -> None:
        if not self.next_is(character):
            self._fail(f"{character} is missing")
        self._position += 1

    def _fail(self, cause: str = "") -> NoReturn:
        where = self._position
        if not cause:
            try:
                self._raw_decode(self._text, where)
            except json.JSONDecodeError as exc:
                cause, where = exc.msg, exc.pos
            except (ValueError, RecursionError) as exc:
                cause = str(exc)
        raise RefusedValueError((), f"is not valid JSON: {cause}, at character {self._n_dropped + where}")

    def _extend(self) -> bool:
        """Decode the next piece, at least as long as the unread rest; False at the end."""
        if self._n_decoded == len(self._body):
            return False
        rest = self._text[self._position :]
        end = min(self._n_decoded + max(PIECE_BYTES, len(rest)), len(self._body))
        try:
            piece = self._decoder.decode(self._body[self._n_decoded : end], final=end == len(self._body))
        except UnicodeDecodeError as exc:
            raise RefusedValueError((), "is not valid UTF-8") from exc
        self._n_dropped += self._position
        self._text, self._position, self._n_decoded = rest + piece, 0, end
        return True


def has_good_keys(fields: dict[str, Any], n_pairs: int, limits: Settings) -> bool:
    """Whether the keys of an object, which had `n_pairs` members, differ and are within the limits."""
    return len(fields) == n_pairs <= limits.max_object_keys and len(max(fields, key=len, default="")) <= (
        limits.max_key_chars
    )


def long_key(limits: Settings) -> str:
    """The message about a key that is too long."""
    return f"has a key of more than {limits.max_key_chars} characters, which is the limit"


def _object_of(
    limits: Settings, suspicions: list[str], pairs: list[tuple[str, Any]]
) -> dict[str, Any] | _BadObject:
    fields = dict(pairs)
    if has_good_keys(fields, len(pairs), limits):
        return fields
    suspicions.append("keys")
    return _BadObject(pairs)


def mistakes(value: Any, path: Path, limits: Settings) -> Iterator[tuple[Path, str]]:
    """(path, message) of every repeated key, and of every text with half of a surrogate pair, in `value`."""
    if isinstance(value, (dict, _BadObject)):
        pairs = value if isinstance(value, _BadObject) else list(value.items())
        yield from _wrong_keys([key for key, _ in pairs], path, limits)
        for key, child in pairs:
            yield from mistakes(child, (*path, key), limits)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from mistakes(child, (*path, index), limits)
    elif isinstance(value, str) and not _is_unicode(value):
        yield path, f"contains {_HALF_A_PAIR}"


def _wrong_keys(keys: list[str], path: Path, limits: Settings) -> Iterator[tuple[Path, str]]:
    if len(keys) > limits.max_object_keys:
        raise RefusedValueError(path, f"has more than {limits.max_object_keys} keys", too_large=True)
    if len(max(keys, key=len, default="")) > limits.max_key_chars:
        raise RefusedValueError(path, long_key(limits), too_large=True)
    for key, times in Counter(keys).items():
        if not _is_unicode(key):
            yield path, f"has a key with {_HALF_A_PAIR}"
        if times > 1:
            yield (*path, key), "is repeated in its object"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
