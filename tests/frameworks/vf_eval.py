"""Whole runs of verifiers' `vf-eval`, with the reward named in the TOML, and with the service named by its URL.

Its null harness calls a fake model; the rewards are those in traces.jsonl.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.frameworks.stub_openai import model_that_answers

QUESTIONS = ["Why is the sky blue?", "What is two plus two?"]
ANSWERS = ["Because air molecules scatter short wavelengths.", "Four"]
COLUMNS: list[dict[str, Any]] = [{}, {"reference": "Four", "query_type": "closed_ended"}]
ITEMS = [
    {"prompt": question, "response": answer, **columns}
    for question, answer, columns in zip(QUESTIONS, ANSWERS, COLUMNS, strict=True)
]

ROWS = [{"prompt": question, **columns} for question, columns in zip(QUESTIONS, COLUMNS, strict=True)]

TASKSET = """
import json
from pathlib import Path

import verifiers.v1 as vf


class Row(vf.TaskData):
    reference: str | None = None
    query_type: str | None = None


class RowTask(vf.Task[Row]):
    pass


class Rows(vf.Taskset[RowTask, vf.TasksetConfig]):
    def load(self):
        for line in Path(__file__).with_name("rows.jsonl").read_text().splitlines():
            yield RowTask(Row(**json.loads(line)), self.config.task)


__all__ = ["Rows"]
"""

RUN = """
model = "stub"
push = false

[env.taskset]
{taskset}

[env.agent.harness]
id = "null"

[env.agent.runtime]
type = "subprocess"

[client]
base_url = "{model}"
api_key_var = "STUB_KEY"
"""

BY_FUNCTION = """
id = "rows_v1"

[env.taskset.task.rewards]
glassbox = { fn = "reward_client.adapters.verifiers:glassbox", weight = 1.0 }
"""

BY_URL = """
id = "nemo_gym"
dataset = "rows.jsonl"

[env.taskset.task]
resources_url = "http://HOST:8000/nemo_gym"
request_timeout = 60
headers = { Authorization = "Bearer KEY" }
"""


class Run:
    """Runs `vf-eval` in a folder; each row of its data is one rollout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.before_scoring: Callable[[], object] = lambda: None
        """Called once, when the run has begun and nothing is scored yet."""

    def by_function(self, rows: Sequence[dict[str, Any]], **settings: str) -> list[dict[str, Any]]:
        """The traces of the rollouts, with the adapter's settings as environment variables."""
        package = self._folder / "rows_v1"
        package.mkdir()
        (package / "__init__.py").write_text(TASKSET)
        _write(package / "rows.jsonl", rows)
        return self._traces(BY_FUNCTION, {f"GLASSBOX_{name}": value for name, value in settings.items()})

    def by_url(self, rows: Sequence[dict[str, Any]], url: str, key: str = "none") -> list[dict[str, Any]]:
        """The traces of the rollouts, scored by the service's own protocol."""
        file = self._folder / "rows.jsonl"
        _write(file, [{"responses_create_params": {"input": row["prompt"]}, **row} for row in rows])
        taskset = BY_URL.replace("rows.jsonl", str(file)).replace("http://HOST:8000", url).replace("KEY", key)
        return self._traces(taskset, {})

    def _traces(self, taskset: str, settings: dict[str, str]) -> list[dict[str, Any]]:
        path = os.pathsep.join([str(self._folder), os.environ["PYTHONPATH"]])
        environment = {**os.environ, **settings, "PYTHONPATH": path, "STUB_KEY": "none"}
        command = [str(Path(sys.executable).with_name("vf-eval")), "@", "run.toml", "-n", "2", "-o", "out"]
        with model_that_answers(dict(zip(QUESTIONS, ANSWERS, strict=True)), self.before_scoring) as model:
            (self._folder / "run.toml").write_text(RUN.format(taskset=taskset, model=model))
            done = subprocess.run(
                command,
                cwd=self._folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        episodes = [json.loads(line) for file in self._folder.rglob("traces.jsonl") for line in file.open()]
        traces = [trace for episode in episodes for trace in episode.get("traces", [episode])]
        assert len(traces) == len(QUESTIONS), done.stdout + done.stderr
        return sorted(traces, key=lambda trace: QUESTIONS.index(_question(trace)))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _question(trace: dict[str, Any]) -> str:
    return next(question for question in QUESTIONS if question in json.dumps(trace["task"]))


def rewards(traces: list[dict[str, Any]]) -> list[float | None]:
    """The reward of each rollout; None where verifiers recorded none."""
    found: list[float | None] = []
    for trace in traces:
        scores = [reward["score"] for reward in trace["rewards"].values() if reward is not None]
        assert len(scores) < 2
        found.append(scores[0] if scores else None)
    return found


def errors(traces: list[dict[str, Any]]) -> list[str]:
    """The errors of each rollout."""
    return ["; ".join(error["message"] for error in trace["errors"]) for trace in traces]
