"""Provenance of a run: package versions, platform, commit."""

import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "glassbox-reward",
    "openrlhf",
    "deepspeed",
    "ray",
    "torch",
    "transformers",
    "vllm",
    "peft",
    "datasets",
)


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Return the versions of Python, the platform and those of `packages` that are installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def freeze() -> str:
    """Return every installed distribution as `name==version`, one per line."""
    lines = {f"{dist.name}=={dist.version}" for dist in metadata.distributions() if dist.name}
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


def git_commit() -> str | None:
    """Return the commit of the source tree, with `-dirty` when files are modified; None outside a repository."""
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - git is looked up on PATH
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
