"""The witness itself: it passes beside honest work, and fails for a service that an attack stops."""

from __future__ import annotations

import os
import signal

import pytest

from tests.api.hostile.service import HostileTarget
from tests.api.hostile.witness import Reply, Witness, statuses

pytestmark = pytest.mark.slow


def test_honest_work_of_another_caller_keeps_the_bounds(target: HostileTarget) -> None:
    body = {"items": [{"prompt": "Why?", "response": f"Because of {n}."} for n in range(16)]}

    with Witness(target) as witness:
        witness.repeat(lambda: witness.post("/score", body), workers=2)

    assert statuses(witness.replies) == {200}


def test_a_process_that_stands_still_for_a_second_is_noticed(target: HostileTarget) -> None:
    def attack() -> None:
        with Witness(target) as witness:
            os.kill(target.process.pid, signal.SIGSTOP)
            witness.wait(1.0)
            os.kill(target.process.pid, signal.SIGCONT)

    with pytest.raises(AssertionError, match="healthz"):
        attack()


def test_a_process_that_stands_still_once_in_a_long_attack_is_noticed(target: HostileTarget) -> None:
    def attack() -> None:
        with Witness(target) as witness:
            os.kill(target.process.pid, signal.SIGSTOP)
            witness.wait(1.0)
            os.kill(target.process.pid, signal.SIGCONT)
            witness.wait(6.0)  # so that one sample in a hundred is slow

    with pytest.raises(AssertionError, match="the longest healthz"):
        attack()


def test_an_error_reply_that_is_too_long_is_noticed(target: HostileTarget) -> None:
    def attack() -> None:
        with Witness(target) as witness:
            witness.replies.append(Reply(422, b"x" * 100_000))

    with pytest.raises(AssertionError, match="error reply"):
        attack()
