"""When OpenRLHF ends early, the error quotes the cause; a stopped evaluation prints what continues it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from reward_trainer.openrlhf.failure import failure_cause, oom_kills
from tests.json_server import Received, json_server

LOG = [
    "(PPOTrainer pid=8) INFO 11-23 19:40:23 agent.py:355] all is well",
    "Traceback (most recent call last):",
    '  File "train_ppo_ray.py", line 780, in <module>',
    "ray.exceptions.RayTaskError(ValueError): ray::PPOTrainer.fit()",
    "(PPOTrainer pid=8) ValueError: probability tensor contains nan",
    "ray.exceptions.RayTaskError(ValueError): ray::PPOTrainer.fit()",
    "Exception ignored in: <function Pool.__del__ at 0x7f>",
    "Traceback (most recent call last):",
    "AttributeError: 'NoneType' object has no attribute 'dumps'",
]
DIED = [
    *LOG[:1],
    "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.",
    "ray.exceptions.RayTaskError(ActorDiedError): ray::PPOTrainer.fit()",
]


@pytest.mark.parametrize(
    ("return_code", "lines", "kills", "parts"),
    [
        (1, LOG, 0, ["ValueError: probability tensor contains nan"]),
        (1, LOG[:4], 0, ["ray.exceptions.RayTaskError(ValueError): ray::PPOTrainer.fit()"]),
        (3, LOG[:1], 0, ["exit status 3, and no exception in its log"]),
        (-9, LOG[:1], 0, ["ended by SIGKILL"]),
        (-15, LOG, 0, ["ended by SIGTERM", "probability tensor contains nan"]),
        (1, LOG, 2, ["ValueError: probability tensor contains nan"]),
        (1, DIED, 2, ["2 processes of this machine for lack of memory", "actor died", "--micro-batch-size"]),
        (1, DIED, 0, ["ray.exceptions.ActorDiedError: The actor died"]),
        (-9, [], 1, ["a process of this machine for lack of memory"]),
        (-9, [], -1, ["ended by SIGKILL"]),
        (-200, [], 0, ["signal 200"]),
    ],
)
def test_the_cause_is_the_exception_of_the_log_a_signal_or_lack_of_memory(
    return_code: int, lines: list[str], kills: int, parts: list[str]
) -> None:
    cause = failure_cause(return_code, lines, kills)

    assert [part for part in parts if part not in cause] == []
    assert "NoneType" not in cause
    assert ("lack of memory" in cause) == any("lack of memory" in part for part in parts)
    assert "\n" not in cause


def test_a_very_long_message_is_shortened() -> None:
    assert len(failure_cause(1, [f"RuntimeError: {'x' * 100_000}"])) < 1000


def test_processes_killed_for_lack_of_memory_are_counted() -> None:
    assert oom_kills() >= 0


def test_an_evaluation_that_is_stopped_says_how_to_continue(tmp_path: Path) -> None:
    asked = threading.Event()

    def answer(request: Received) -> tuple[int, Any]:
        asked.set()
        return 503, {"title": "Not ready", "status": 503, "detail": "the encoder is loading"}

    responses = tmp_path / "my responses.jsonl"
    responses.write_text(json.dumps({"step": 0, "prompt": "Why?", "response": "Because."}) + "\n")
    with json_server(answer) as url:
        options = [
            "--responses",
            str(responses),
            "--out",
            str(tmp_path / "out"),
            "--reward-url",
            url,
            "--wait",
            "60",
        ]
        with subprocess.Popen(
            [sys.executable, "-m", "reward_evidence.evaluate", *options], stderr=subprocess.PIPE, text=True
        ) as evaluation:
            assert asked.wait(60)
            evaluation.send_signal(signal.SIGINT)
            _, error = evaluation.communicate(timeout=60)

    assert evaluation.returncode == 130
    assert error.startswith("stopped; continue with: glassbox evaluate --responses ")
    assert f"'{responses}' --out" in error
    assert "Traceback" not in error
