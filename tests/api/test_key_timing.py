"""The time of a refusal tells nothing of a key. Work is counted, because a clock would tell of the machine."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from reward_service.http.auth import Keyring

pytestmark = pytest.mark.slow

KEYS = [f"key-{number:02}-of-the-house" for number in range(8)]


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    file = tmp_path / "keys"
    file.write_text("\n".join(KEYS))
    return Keyring("", file)


def work(keys: Keyring, presented: Iterable[bytes]) -> tuple[bool, list[str]]:
    """The verdict, and every function of C that was called for it, in order, as the interpreter tells."""
    called: list[str] = []

    def note(_: FrameType, event: str, function: Any) -> None:
        if event == "c_call":
            called.append(function.__qualname__)

    sys.setprofile(note)
    try:
        verdict = keys.accepts(presented)
    finally:
        sys.setprofile(None)
    return verdict, called


def nearest(matching_bytes: int) -> bytes:
    """A wrong key whose digest begins like the one of the first key for so many bytes, found by trying."""
    wanted = sha256(KEYS[0].encode()).digest()[:matching_bytes]
    return next(
        key for key in map(b"%d".__mod__, range(10_000_000)) if sha256(key).digest()[:matching_bytes] == wanted
    )


def test_every_key_is_compared_in_constant_time_wherever_a_wrong_one_first_differs(keys: Keyring) -> None:
    far, near = (work(keys, [nearest(n)]) for n in (0, 2))

    assert far == near
    assert far[0] is False
    assert far[1].count(hmac.compare_digest.__qualname__) == len(KEYS)


@pytest.mark.parametrize("key", [KEYS[0], KEYS[3], KEYS[-1]], ids=["first", "middle", "last"])
def test_a_right_key_costs_what_a_wrong_one_does_wherever_it_stands(keys: Keyring, key: str) -> None:
    right, wrong = work(keys, [key.encode()]), work(keys, [b"wrong"])

    assert right == (True, wrong[1])


def test_a_right_key_among_wrong_ones_ends_nothing_early(keys: Keyring) -> None:
    first, last = ([KEYS[0].encode(), b"a", b"b"], [b"a", b"b", KEYS[0].encode()])

    assert work(keys, first) == work(keys, last)
    assert work(keys, first)[1].count(hmac.compare_digest.__qualname__) == 3 * len(KEYS)
