"""What OpenRLHF's processes do before they import anything; their environment says what.

    launch ─ with_hook() ─▶ OpenRLHF's processes, Ray's workers too ─ PYTHONPATH ─▶ hook/sitecustomize.py
        └─ install_hooks()
           ├─ cpu/           there is no GPU
           └─ api_key.py  the service wants a key

A launch on GPUs without a key has no hook.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

__all__ = ["CPU", "REWARD_KEY", "install_hooks", "with_hook"]

CPU = "cpu"
REWARD_KEY = "reward-key"

_VARIABLE = "GLASSBOX_INSIDE"
_HOOK = str(Path(__file__).parent / "hook")
_PACKAGES = tuple(
    dict.fromkeys(
        str(Path(spec.origin).parents[1])
        for spec in map(find_spec, ("reward_trainer", "reward_client"))  # found, not imported
        if spec is not None and spec.origin is not None
    )
)
"""Folders that hold our packages, for interpreters that start elsewhere."""


def with_hook(base: Mapping[str, str], what: str) -> dict[str, str]:
    """Return `base` such that a Python started with it prepares `what`, besides what `base` asks for already."""
    ours = (_HOOK, *_PACKAGES)
    path = [entry for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry and entry not in ours]
    asked = dict.fromkeys([*base.get(_VARIABLE, "").split(), what])
    return {**base, "PYTHONPATH": os.pathsep.join([*ours, *path]), _VARIABLE: " ".join(asked)}


def install_hooks() -> None:
    """Prepare this interpreter; called once, before anything heavy is imported."""
    asked = os.environ.get(_VARIABLE, "").split()
    if CPU in asked:
        from reward_trainer.openrlhf import cpu

        cpu.install_hooks()
    if REWARD_KEY in asked:
        from reward_trainer.openrlhf import api_key

        api_key.install_hooks()
