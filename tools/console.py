"""Progress lines of the tools, and the name of the processor for their results."""

from __future__ import annotations

import sys
import time
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def log(line: str) -> None:
    """Print one line with the time of day."""
    sys.stdout.write(f"[{time.strftime('%H:%M:%S')}] {line}\n")
    sys.stdout.flush()


def processor_name() -> str:
    """The model name of the processor, where Linux reports one."""
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")
