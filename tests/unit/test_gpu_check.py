"""gpu-check: its dry run, and what becomes of a step that fails, hangs or does not get its turn."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tools.gpu_check.figures import Figures, Outcome, Report
from tools.gpu_check.packages import install
from tools.gpu_check.runner import Step, run_steps
from tools.gpu_check.setting import Setting
from tools.gpu_check.wheels import ENCODER, PACKAGES, pinned, round_weights

ROOT = Path(__file__).resolve().parents[2]


def good(setting: Setting) -> None:
    setting.note("rows", 12.5, "rows/s", "a note")


def out_of_bar(setting: Setting) -> None:
    setting.note("deviation", 0.5, kept=False)


def broken(setting: Setting) -> None:
    setting.note("before it broke", 1)
    raise RuntimeError("no such kernel")


def not_a_number(setting: Setting) -> None:
    setting.note("rows", float("nan"))


def hanging(setting: Setting) -> None:
    setting.note("before it hung", 2)
    child = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"])
    (setting.scratch / "child").write_text(str(child.pid))
    child.wait()


def run(tmp_path: Path, *steps: Step, seconds: float = 60.0) -> dict[str, dict[str, object]]:
    out = tmp_path / "gpu-check.json"
    report = Report({"card": "none"}, [Outcome(step.name, step.what) for step in steps])
    setting = Setting("cpu", small=True, scratch=tmp_path, figures=Figures(tmp_path / "none"))
    run_steps(list(steps), report, out, setting, time.monotonic() + seconds)
    return {step["name"]: step for step in json.loads(out.read_text())["steps"]}


def step(function: object, limit_s: float = 30.0) -> Step:
    return Step(function.__name__, "What it is.", limit_s, function)  # type: ignore[attr-defined,arg-type]


def test_a_step_that_fails_is_reported_with_its_error_and_the_others_go_on(tmp_path: Path) -> None:
    found = run(tmp_path, step(broken), step(not_a_number), step(out_of_bar), step(good))

    assert [found[name]["status"] for name in found] == ["failed", "failed", "failed", "ok"]
    assert "no such kernel" in str(found["broken"]["reason"])
    assert "rows is nan" in str(found["not_a_number"]["reason"])
    assert "deviation" in str(found["out_of_bar"]["reason"])
    assert found["broken"]["figures"] == [
        {"name": "before it broke", "value": 1.0, "unit": "", "note": "", "kept": None}
    ]


@pytest.mark.slow
def test_a_step_that_hangs_is_ended_with_its_children_and_keeps_its_figures(tmp_path: Path) -> None:
    found = run(tmp_path, step(hanging, limit_s=4.0), step(good))

    assert [found[name]["status"] for name in found] == ["timed out", "ok"]
    assert [figure["name"] for figure in found["hanging"]["figures"]] == ["before it hung"]  # type: ignore[attr-defined]
    status = Path(f"/proc/{(tmp_path / 'child').read_text()}/status")
    assert not status.exists() or "zombie" in status.read_text()


def test_a_step_whose_turn_does_not_come_is_not_run(tmp_path: Path) -> None:
    found = run(tmp_path, step(good), seconds=1.0)

    assert (found["good"]["status"], found["good"]["figures"]) == ("not run", [])
    assert "over" in str(found["good"]["reason"])


def test_a_wheel_with_rounded_weights_installs_and_says_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    (folder / "some_model/model").mkdir(parents=True)
    (folder / "some_model/__init__.py").write_text("")
    weights = {"a": torch.full((3, 2), 1 / 3)}
    save_file(weights, folder / "some_model/model/model.safetensors")
    info = folder / "some_model-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-model\nVersion: 0.1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").write_text("")
    wheel = tmp_path / "wheels/some_model-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))

    round_weights(wheel)
    said = install(wheel.parent, tmp_path / "site")

    assert said.startswith("1 wheels")
    found = load_file(tmp_path / "site/some_model/model/model.safetensors")
    assert found["a"].dtype is torch.float16
    assert torch.equal(found["a"], weights["a"].half())
    assert (tmp_path / "site/some_model-0.1.0+fp16.dist-info").is_dir()


@pytest.mark.slow
def test_the_dry_run_measures_every_step(tmp_path: Path) -> None:
    out = tmp_path / "gpu-check.json"
    command = [sys.executable, "-m", "tools.gpu_check", "--small", "--seconds", "400", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    report = json.loads(out.read_text())
    assert {step["status"] for step in report["steps"]} == {"ok"}
    assert all(step["figures"] for step in report["steps"])
    assert report["machine"]["card"].startswith("none")
    assert "torch.compile" in done.stdout


@pytest.mark.parametrize("name", [*PACKAGES, ENCODER])
def test_every_wheel_for_the_gpu_machine_is_pinned(name: str) -> None:
    package, _, release = pinned(name).partition("==")

    assert package.lower().replace("_", "-") == name.lower().replace("_", "-")
    assert release
