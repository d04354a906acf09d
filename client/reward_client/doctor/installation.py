"""Checks of the installation: versions, the packages of extras, OpenRLHF, torch."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from reward_client import __version__
from reward_client.doctor.check import Check, Status, failed, note, ok

DISTRIBUTION = "glassbox-reward"
TORCH_TIMEOUT_S = 120.0

_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[\w,.-]+\])?[^;]*(?:;(.*))?$")
_PROBE_TORCH = (
    "import torch; gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]; "
    "print(torch.__version__, 'on', ', '.join(gpus) or f'the CPU, {torch.get_num_threads()} threads')"
)


def base_install() -> Check:
    """Versions of Python and of the base install."""
    versions = f"Python {platform.python_version()}, glassbox-reward {__version__}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("httpx", "pydantic"))
    return ok("base install", f"{versions}, {libraries}")


def packages(name: str, requirements: list[str] | None = None, *, needed: bool) -> Check:
    """Whether the packages of an extra are installed.

    Args:
        name: of the extra.
        requirements: of the distribution, as in its metadata; those of glassbox-reward when None.
        needed: whether a missing package is an error.
    """
    subject, install = f"extra {name}", f"pip install '{DISTRIBUTION}[{name}]'"
    required = _packages(name, _requirements() if requirements is None else requirements)
    if not required:
        return note(subject, f"unknown: {DISTRIBUTION} is not installed", install)
    missing = [package for package in required if not is_installed(package)]
    if not missing:
        return ok(subject, f"all {len(required)} packages are installed")
    return Check(subject, _if_missing(needed), f"not installed: {', '.join(missing)}", install)


def _if_missing(needed: bool) -> Status:
    return Status.FAILED if needed else Status.NOTE


def _requirements() -> list[str]:
    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []


def _packages(name: str, requirements: list[str]) -> list[str]:
    """Distributions that the extra `name` needs everywhere: those for certain platforms only are left out."""
    parsed = (match.groups() for text in requirements if (match := _REQUIREMENT.match(text)))
    wanted = re.compile(rf"\s*extra == ['\"]{name}['\"]\s*")
    return [package for package, marker in parsed if wanted.fullmatch(marker or "")]


def is_installed(package: str) -> bool:
    """Whether the distribution `package` is installed."""
    return installed_version(package) is not None


def installed_version(package: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def openrlhf(*, needed: bool) -> Check:
    """OpenRLHF, which is installed separately from the extra `train`."""
    found = installed_version("openrlhf")
    if found is not None:
        return ok("OpenRLHF", found)
    fix = "see docs/guide/training.md, section Installation"
    return Check("OpenRLHF", _if_missing(needed), "not installed", fix)


def torch_device(*, needed: bool, timeout_s: float = TORCH_TIMEOUT_S) -> Check:
    """The version of torch and the devices it finds; in a separate process, because a broken torch may crash."""
    if find_spec("torch") is None:
        return Check("torch", _if_missing(needed), "not installed", f"pip install '{DISTRIBUTION}[service]'")
    try:
        command = [sys.executable, "-c", _PROBE_TORCH]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)  # noqa: S603
    except subprocess.TimeoutExpired:
        return failed("torch", f"not imported within {timeout_s:.0f} s", "try: python -c 'import torch'")
    except subprocess.CalledProcessError as exc:
        cause = (exc.stderr.strip().splitlines() or [f"exit status {exc.returncode}"])[-1]
        return failed("torch", f"cannot be imported: {cause}", "install torch again")
    return ok("torch", probe.stdout.strip())
