"""Programs that some deployment tests need: a missing one skips the test, and fails it in CI."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

__all__ = ["program", "skip_or_fail"]


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; in CI, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI needs it")
    pytest.skip(reason)


def program(name: str) -> str:
    """Path of a program, beside this Python or on the PATH."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return path or skip_or_fail(f"{name} is not installed")
