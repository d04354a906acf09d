"""Runs at the start of each of OpenRLHF's processes and installs the hooks that the environment names.

A launch on GPUs without an API key needs no hook.
"""

from __future__ import annotations

import os

from reward_trainer.openrlhf.environment import API_KEY_HOOK, CPU_HOOK, HOOKS_VARIABLE


def install_hooks() -> None:
    """Install the hooks in GLASSBOX_HOOKS; called once, before any large library is imported."""
    names = os.environ.get(HOOKS_VARIABLE, "").split()
    if CPU_HOOK in names:
        from reward_trainer.openrlhf.cpu import hooks

        hooks.install_hooks()
    if API_KEY_HOOK in names:
        from reward_trainer.openrlhf import api_key

        api_key.install_hooks()
