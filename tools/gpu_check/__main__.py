"""python -m tools.gpu_check [--small] [--steps A,B] [--seconds 480] [--wheels FOLDER] [--out gpu-check.json]

It needs no network. Without CUDA only the dry run (`--small`) is possible, and its figures are not those of a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

from tools.gpu_check import packages
from tools.gpu_check.figures import Figures, Outcome, Report

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "sentence_transformers", "scipy.stats", "reward_service.app")

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Use no hub; detect a GPU without starting CUDA; tokenize on all cores."""


def main() -> int:
    """Run the steps, write and print the report; 0 when every step that ran is ok."""
    arguments = _arguments()
    until = time.monotonic() + arguments.seconds
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        scratch = Path(folder)
        notes = _make_ready(arguments.wheels, scratch / "site")
        for name in HEAVY:
            importlib.import_module(name)
        from tools.gpu_check import machine
        from tools.gpu_check.runner import run_steps
        from tools.gpu_check.setting import Setting
        from tools.gpu_check.steps import STEPS

        chosen = [step for step in STEPS if arguments.steps is None or step.name in arguments.steps]
        device = "cpu" if arguments.small else "cuda"
        report = Report(
            machine.describe(device, arguments.commit), [Outcome(step.name, step.what) for step in STEPS], notes
        )
        for outcome in report.steps:
            if arguments.steps is not None and outcome.name not in arguments.steps:
                outcome.reason = "not requested"
        report.save(arguments.out)
        run_steps(
            chosen,
            report,
            arguments.out,
            Setting(device, arguments.small, scratch, Figures(scratch / "none")),
            until,
        )
    taken = arguments.seconds - (until - time.monotonic())
    report.notes.append(f"all in {taken:.0f} s; command: python -m tools.gpu_check {' '.join(sys.argv[1:])}")
    report.save(arguments.out)
    print(f"\n{report.table}", flush=True)
    return 0 if all(step.status in {"ok", "not run"} for step in report.steps) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the dry run: on the CPU, small sizes")
    parser.add_argument("--steps", type=lambda names: names.split(","), help="names, with commas; default: all")
    parser.add_argument("--seconds", type=float, default=480.0, help="for everything (default: 480)")
    parser.add_argument("--wheels", type=Path, default=ROOT / ".wheels-gpu", help="used if a package is missing")
    parser.add_argument("--commit", help="what is measured; default: what git says")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    return parser.parse_args()


def _make_ready(wheels: Path, target: Path) -> list[str]:
    """Make all packages importable in this process and its children; a description of what was installed."""
    paths = [str(ROOT), *(str(ROOT / folder) for folder in ("client", "services", "trainer"))]
    lacking = packages.missing()
    notes = [f"missing here: {', '.join(lacking) or 'nothing'}"]
    if lacking:
        started = time.monotonic()
        notes.append(f"{packages.install(wheels, target)} in {time.monotonic() - started:.0f} s")
        paths.insert(0, str(target))
    sys.path[:0] = paths
    importlib.invalidate_caches()
    if lacking and (still := packages.missing()):
        notes.append(f"still missing: {', '.join(still)}")
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([inherited] if inherited else [])])
    return notes


if __name__ == "__main__":
    sys.exit(main())
