"""Key comparison takes the same work for every key, so that its time does not leak a key.

The tests compare the C functions that are called, because measured times depend on the machine.
"""

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

KEYS = [f"key-{number:02}-of-a-trainer" for number in range(8)]


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    file = tmp_path / "keys"
    file.write_text("\n".join(KEYS))
    return Keyring("", file)


def work(keys: Keyring, presented: Iterable[bytes]) -> tuple[bool, list[str]]:
    """Whether a key was accepted, and the names of the C functions that were called, in order."""
    called: list[str] = []

    def profile(_: FrameType, event: str, function: Any) -> None:
        if event == "c_call":
            called.append(function.__qualname__)

    sys.setprofile(profile)
    try:
        accepted = keys.find(presented) is not None
    finally:
        sys.setprofile(None)
    return accepted, called


def nearest(matching_bytes: int) -> bytes:
    """A wrong key whose digest begins with the first bytes of the first key's digest, found by brute force."""
    wanted = sha256(KEYS[0].encode()).digest()[:matching_bytes]
    return next(
        key for key in map(b"%d".__mod__, range(10_000_000)) if sha256(key).digest()[:matching_bytes] == wanted
    )


def test_the_work_does_not_depend_on_the_first_byte_that_differs(keys: Keyring) -> None:
    far, near = (work(keys, [nearest(n)]) for n in (0, 2))

    assert far == near
    assert far[0] is False
    assert far[1].count(hmac.compare_digest.__qualname__) == len(KEYS)


@pytest.mark.parametrize("key", [KEYS[0], KEYS[3], KEYS[-1]], ids=["first", "middle", "last"])
def test_a_valid_key_at_any_position_takes_the_work_of_an_invalid_one(keys: Keyring, key: str) -> None:
    valid, invalid = work(keys, [key.encode()]), work(keys, [b"wrong"])

    assert valid == (True, invalid[1])


def test_a_valid_key_among_several_does_not_end_the_comparison(keys: Keyring) -> None:
    first, last = ([KEYS[0].encode(), b"a", b"b"], [b"a", b"b", KEYS[0].encode()])

    assert work(keys, first) == work(keys, last)
    assert work(keys, first)[1].count(hmac.compare_digest.__qualname__) == 3 * len(KEYS)
