"""Python imports this module at start-up when its folder is on PYTHONPATH; it installs the hooks of a run.

A `sitecustomize` later on the path (the user's or the distribution's) is run too. No large library is imported
here. A launch on GPUs without an API key needs no hook.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

from reward_trainer.openrlhf.environment import API_KEY_HOOK, CPU_HOOK, HOOKS_VARIABLE

_HERE = str(Path(__file__).parent)


def _install_hooks() -> None:
    names = os.environ.get(HOOKS_VARIABLE, "").split()
    if CPU_HOOK in names:
        from reward_trainer.openrlhf.cpu import hooks

        hooks.install_hooks()
    if API_KEY_HOOK in names:
        from reward_trainer.openrlhf import api_key

        api_key.install_hooks()


def _run_hidden_sitecustomize() -> None:
    others = [entry for entry in sys.path if entry != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_install_hooks()
_run_hidden_sitecustomize()
