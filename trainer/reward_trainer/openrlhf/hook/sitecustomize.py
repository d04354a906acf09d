"""Python imports this at start-up wherever its folder leads PYTHONPATH; it prepares OpenRLHF's processes.

A `sitecustomize` that this one hides (the user's, the distribution's) is run as well.
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
