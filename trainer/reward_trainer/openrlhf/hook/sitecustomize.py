"""Python imports this module at start-up when its folder is on PYTHONPATH; it installs the hooks of a run.

A `sitecustomize` later on the path (the user's or the distribution's) is run too.
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from reward_trainer.openrlhf.bootstrap import install_hooks

_HERE = str(Path(__file__).parent)


def _run_hidden_sitecustomize() -> None:
    others = [entry for entry in sys.path if entry != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


install_hooks()
_run_hidden_sitecustomize()
