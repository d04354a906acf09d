"""A study whose runs are trained by the machines of a real Ray cluster: two nodes on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reward_evidence.study.command import run
from tests.unit.compared_runs import make_evaluated, rising

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow

ON_RAY = [sys.executable, "-m", "reward_trainer.on_ray"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster; each node has one CPU and a resource of its own."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "resources": {"first": 1}})
    found.add_node(num_cpus=1, resources={"second": 1})
    found.wait_for_nodes()
    try:
        yield found.address
    finally:
        found.shutdown()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluated(tmp_path_factory.mktemp("evaluated") / "run", rising(0.1))


def train(evaluated: Path, tmp_path: Path, *variables: str) -> list[str]:
    """The fake trainer; its settings are in its command, because a cluster has the environment of its start."""
    fake = str(Path(__file__).with_name("fake_train.py"))
    settings = [f"FAKE_RUN={evaluated}", f"FAKE_CALLS={tmp_path / 'calls'}", *variables]
    return ["env", *settings, sys.executable, fake]


def study(tmp_path: Path, cluster: str, train: list[str], needs: str = "{cpus: 1}") -> int:
    """Run the study on the cluster; its exit status."""
    path = tmp_path / "study.yaml"
    ray = f"{{address: '{cluster}', {needs[1:]}"
    text = f"recipes: [rer, li]\nseeds: [1]\nservice: {{url: 'http://127.0.0.1:9'}}\nray: {ray}\n"
    path.write_text(text, encoding="utf-8")
    return run(Namespace(study=str(path), out=tmp_path / "out", jobs=2, dry_run=False), [], train=train)


def state(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))["runs"]
    return found


def test_the_runs_are_trained_on_machines_of_the_cluster(cluster: str, evaluated: Path, tmp_path: Path) -> None:
    assert study(tmp_path, cluster, train(evaluated, tmp_path)) == 0

    assert {one["status"] for one in state(tmp_path).values()} == {"finished"}
    assert "runs on " in (tmp_path / "out" / "logs" / "rer-seed-1.log").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "comparison.html").is_file()


def test_a_run_that_fails_there_is_reported_with_its_cause(cluster: str, evaluated: Path, tmp_path: Path) -> None:
    assert study(tmp_path, cluster, train(evaluated, tmp_path, "FAKE_FAIL=li-seed-1")) == 1

    found = state(tmp_path)
    assert found["rer-seed-1"]["status"] == "finished"
    assert found["li-seed-1"]["cause"] == "exit status 1: error: the disk is full"


def test_a_cluster_that_cannot_be_reached_is_the_cause(evaluated: Path, tmp_path: Path) -> None:
    assert study(tmp_path, "no-such-host:1", train(evaluated, tmp_path)) == 1

    assert "the Ray cluster at no-such-host:1 cannot be used" in state(tmp_path)["rer-seed-1"]["cause"]


def test_a_command_runs_where_its_resources_are(cluster: str) -> None:
    show = "import os; print(sorted(name for name in os.environ if name.startswith('RAY_')))"
    needs = ["--address", cluster, "--resources", '{"second": 1}']
    done = subprocess.run([*ON_RAY, *needs, "--", sys.executable, "-c", show], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]", "the command starts a Ray of its own"


def test_a_machine_without_the_folder_of_the_study_is_the_cause(cluster: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    starts = f"import os, runpy, sys; sys.argv = ['on_ray', '--address', '{cluster}', '--', 'true']; "
    gone = f"os.rmdir('{here}'); os.getcwd = lambda: '{here}'; "
    begins = "runpy.run_module('reward_trainer.on_ray', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", starts + gone + begins], cwd=here, capture_output=True, text=True)

    assert done.returncode == 1
    assert f"has no folder {here}: the machines must share its file system" in done.stdout


def test_a_signal_stops_the_command_on_its_machine(cluster: str, tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    for fifo in (begun, ended):
        os.mkfifo(fifo)
    script = f"trap 'echo stopped > {ended}; exit 130' TERM; echo $$ > {begun}; while :; do sleep 0.1; done"
    starter = subprocess.Popen([*ON_RAY, "--address", cluster, "--", "sh", "-c", script])
    begun.read_text()
    starter.send_signal(signal.SIGTERM)

    assert ended.read_text() == "stopped\n"
    assert starter.wait(60) == 143


def test_a_signal_ends_the_wait_for_a_machine(cluster: str) -> None:
    """Nothing runs there yet that could take its time to stop."""
    needs = ["--address", cluster, "--resources", '{"third": 1}']
    with subprocess.Popen([*ON_RAY, *needs, "--", "true"], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert "waiting for a machine of the cluster that has free" in starter.stdout.readline()
        starter.send_signal(signal.SIGTERM)

        assert starter.wait(60) == 143


def test_a_command_that_a_machine_does_not_have_is_the_cause(cluster: str) -> None:
    command = [*ON_RAY, "--address", cluster, "--", "/no/such/python"]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stdout.endswith("cannot start /no/such/python: No such file or directory\n")


def test_a_command_ends_when_its_starter_is_killed(cluster: str, tmp_path: Path) -> None:
    """A reader of a FIFO sees the end of the last process that writes to it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = f"exec 3> {fifo}; echo begun >&3; while :; do sleep 0.1; done"
    starter = subprocess.Popen([*ON_RAY, "--address", cluster, "--", "sh", "-c", script])
    with fifo.open(encoding="utf-8") as reader:
        assert reader.readline() == "begun\n"
        starter.kill()
        starter.wait()

        assert reader.read() == ""
