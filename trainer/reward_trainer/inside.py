"""What OpenRLHF's processes do before they import anything; their environment says what.

    launch ─ with_hook() ─▶ OpenRLHF's processes, Ray's workers too ─ PYTHONPATH ─▶ hook/sitecustomize.py
        └─ activate()
           ├─ cpu/           there is no GPU
           └─ reward_key.py  the service wants a key

A launch on GPUs without a key has no hook.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["CPU", "REWARD_KEY", "activate", "with_hook"]

CPU = "cpu"
REWARD_KEY = "reward-key"

_VARIABLE = "GLASSBOX_INSIDE"
_HOOK = str(Path(__file__).parent / "hook")
_PACKAGES = str(Path(__file__).parents[1])


def with_hook(base: Mapping[str, str], what: str) -> dict[str, str]:
    """Return `base` such that a Python started with it prepares `what`, besides what `base` asks for already."""
    path = [entry for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry not in ("", _HOOK, _PACKAGES)]
    asked = dict.fromkeys([*base.get(_VARIABLE, "").split(), what])
    return {**base, "PYTHONPATH": os.pathsep.join([_HOOK, _PACKAGES, *path]), _VARIABLE: " ".join(asked)}


def activate() -> None:
    """Prepare this interpreter; called once, before anything heavy is imported."""
    asked = os.environ.get(_VARIABLE, "").split()
    if CPU in asked:
        from reward_trainer import cpu

        cpu.activate()
    if REWARD_KEY in asked:
        from reward_trainer import reward_key

        reward_key.activate()
