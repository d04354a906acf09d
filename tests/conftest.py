"""Shared fixtures: the folder of test data."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import tests.generated_cases  # noqa: F401 (registers the hypothesis profile)

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads: idle threads must not spin

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; its children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

collect_ignore = ["frameworks"]  # make contract runs them, in the environments of frameworks


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with shared vectors and data: $GLASSBOX_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("GLASSBOX_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        message = f"no shared data at {folder} (set GLASSBOX_SHARED)"
        if os.environ.get("CI"):
            pytest.fail(f"{message}; CI needs it")
        pytest.skip(message)
    return folder
