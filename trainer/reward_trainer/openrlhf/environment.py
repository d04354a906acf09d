"""Environment of OpenRLHF's processes: a hook that runs in each of them, Ray's workers included, at start-up.

launcher: with_hook(environment, NAME) ──▶ PYTHONPATH, GLASSBOX_HOOKS
process:  hook/sitecustomize.py ──▶ bootstrap.install_hooks ──▶ cpu/ and api_key, as named in GLASSBOX_HOOKS
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

CPU_HOOK = "cpu"
API_KEY_HOOK = "api-key"
HOOKS_VARIABLE = "GLASSBOX_HOOKS"
"""Names of the hooks to install, separated by spaces."""

_HOOK_FOLDER = str(Path(__file__).parent / "hook")
_PACKAGES = ("reward_trainer", "reward_runs", "reward_evidence", "reward_client")


def with_hook(base: Mapping[str, str], name: str) -> dict[str, str]:
    """Return `base` with hook `name` added; a Python process started with it installs the hook."""
    ours = (_HOOK_FOLDER, *_package_folders())
    path = [entry for entry in base.get("PYTHONPATH", "").split(os.pathsep) if entry and entry not in ours]
    names = dict.fromkeys([*base.get(HOOKS_VARIABLE, "").split(), name])
    return {**base, "PYTHONPATH": os.pathsep.join([*ours, *path]), HOOKS_VARIABLE: " ".join(names)}


def _package_folders() -> list[str]:
    """Folders that contain our packages: Ray's workers have another working directory."""
    specs = map(find_spec, _PACKAGES)  # found, not imported
    return list(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin))
