"""OpenRLHF's reward client sends the key to a service that requires one, and does not log it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reward_trainer.openrlhf import api_key
from tests.json_server import Received, json_server

pytestmark = pytest.mark.slow

pytest.importorskip("openrlhf.utils.agent", reason="OpenRLHF is not installed (extra: train)")

ROOT = Path(__file__).parents[2]
SECRET = "s3cret/with:@%signs"  # noqa: S105 - of this test's service
EXECUTE = """
import json, os, sys
from tests.contract.test_openrlhf_reward_client import execute
print(json.dumps({"reward": execute([sys.argv[1]])["reward"], "vllm": "vllm" in sys.modules}))
"""


@pytest.fixture
def keyed() -> Iterator[str]:
    """URL of a service that requires SECRET as the password of HTTP Basic."""
    wanted = "Basic " + base64.b64encode(f"key:{SECRET}".encode()).decode()

    def answer(request: Received) -> tuple[int, Any]:
        allowed = request.headers.get_all("authorization") == [wanted] and request.path == "/get_reward?recipe=li"
        return 200 if allowed else 401, {"rewards": [0.5], "scores": [0.5], "extra_logs": {}}

    with json_server(answer) as url:
        yield f"{url}/get_reward?recipe=li"


def execute(url: str, key: str) -> subprocess.CompletedProcess[str]:
    """One rollout in a process with the launcher's environment for OpenRLHF on GPUs."""
    env = api_key.environment({**os.environ, "GLASSBOX_API_KEY": key})
    command = [sys.executable, "-c", EXECUTE, url]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_service_receives_the_key_although_the_url_has_none(keyed: str) -> None:
    done = execute(keyed, SECRET)

    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"reward": [0.5], "vllm": False}
    assert "s3cret" not in done.stdout + done.stderr


def test_with_a_wrong_key_openrlhf_logs_the_status_without_the_key(keyed: str) -> None:
    done = execute(keyed, "s3cret-but-wrong")

    assert json.loads(done.stdout.splitlines()[-1])["reward"] is None
    assert "401" in done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr
