"""`glassbox doctor`: check this machine, the installation and the service; one function per subject."""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from reward_client import RetryPolicy, __version__
from reward_client.cli.options import connect, positive_float, url
from reward_client.errors import RewardError

DISTRIBUTION = "glassbox-reward"

GB = 1e9
DISK_BYTES = 5 * GB
"""A run of the embedded policy with its checkpoints takes less."""
MEMORY_BYTES = 8 * GB
"""The service and a training run of the embedded policy fit beside each other."""
SHARED_MEMORY_BYTES = 2 * GB
"""Ray keeps objects there; docker-compose.yml gives the trainer as much."""
TORCH_TIMEOUT_S = 120.0

_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[\w,.-]+\])?[^;]*(?:;(.*))?$")
_PROBE_TORCH = (
    "import torch; gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]; "
    "print(torch.__version__, 'on', ', '.join(gpus) or f'the CPU, {torch.get_num_threads()} threads')"
)


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    """It works, or is not needed."""
    MISSING = "missing"
    """It is needed and not available."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    subject: str
    status: Status
    found: str
    next_step: str = ""


def base_install() -> Check:
    """Versions of Python and of the base install."""
    versions = f"Python {platform.python_version()}, glassbox-reward {__version__}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("httpx", "pydantic"))
    return Check("base install", Status.OK, f"{versions}, {libraries}")


def disk(folder: Path) -> Check:
    """Free disk space."""
    free = shutil.disk_usage(folder).free
    return _amount("disk", free, DISK_BYTES, f"free in {folder}", "use a --run-dir on a larger disk")


def memory() -> Check:
    """Memory of this machine, or of the control group that limits this process."""
    if not hasattr(os, "sysconf"):
        return Check("memory", Status.NOTE, "unknown on this system")
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    cgroup = Path("/sys/fs/cgroup/memory.max")
    if cgroup.is_file() and (limit := cgroup.read_text().strip()).isdigit():
        limits.append(int(limit))
    return _amount(
        "memory", min(limits), MEMORY_BYTES, "in total", "train a smaller policy, or on a larger machine"
    )


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:  # noqa: S108 - the mount itself is checked
    """Size of shared memory, which a container limits to 64 MB by default."""
    if not folder.is_dir():
        return Check("shared memory", Status.NOTE, f"{folder} does not exist")
    total, next_step = shutil.disk_usage(folder).total, "start the container with --shm-size 2g"
    return _amount("shared memory", total, SHARED_MEMORY_BYTES, "in total", next_step)


def _amount(subject: str, found: float, wanted: float, what: str, next_step: str) -> Check:
    text = f"{found / GB:.1f} GB {what}"
    if found >= wanted:
        return Check(subject, Status.OK, text)
    return Check(subject, Status.NOTE, f"{text}; {wanted / GB:.0f} GB are recommended for training", next_step)


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
        return Check(subject, Status.NOTE, f"unknown: {DISTRIBUTION} is not installed", install)
    missing = [package for package in required if not _installed(package)]
    if not missing:
        return Check(subject, Status.OK, f"all {len(required)} packages are installed")
    status = Status.MISSING if needed else Status.NOTE
    return Check(subject, status, f"not installed: {', '.join(missing)}", install)


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


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def openrlhf(*, needed: bool) -> Check:
    """OpenRLHF, which is installed separately from the extra `train`."""
    if _installed("openrlhf"):
        return Check("OpenRLHF", Status.OK, version("openrlhf"))
    status = Status.MISSING if needed else Status.NOTE
    return Check("OpenRLHF", status, "not installed", "see docs/guide/training.md, section Installation")


def torch_device(*, needed: bool) -> Check:
    """The version of torch and the devices it finds; in a separate process, because a broken torch may crash."""
    if find_spec("torch") is None:
        status = Status.MISSING if needed else Status.NOTE
        return Check("torch", status, "not installed", f"pip install '{DISTRIBUTION}[service]'")
    try:
        command = [sys.executable, "-c", _PROBE_TORCH]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, check=True)  # noqa: S603
    except subprocess.TimeoutExpired:
        found = f"not imported within {TORCH_TIMEOUT_S:.0f} s"
        return Check("torch", Status.MISSING, found, "try: python -c 'import torch'")
    except subprocess.CalledProcessError as exc:
        cause = (exc.stderr.strip().splitlines() or [f"exit status {exc.returncode}"])[-1]
        return Check("torch", Status.MISSING, f"cannot be imported: {cause}", "install torch again")
    return Check("torch", Status.OK, probe.stdout.strip())


def service(url: str, deadline_s: float) -> Check:
    """Whether the service at `url` is ready, without retries, and what it serves."""
    try:
        with connect([url], retry=RetryPolicy(budget_s=0.0)) as client:
            client.ready(deadline_s=deadline_s)
            info = client.info(deadline_s=deadline_s)
    except RewardError as exc:
        return Check("service", Status.MISSING, str(exc), "start it with `glassbox serve`, or correct --url")
    models = [f"{model.id} on {model.device}" for model in (info.relevance, info.gold) if model is not None]
    found = f"ready at {client.urls[0]}, version {info.version}, {' and '.join(models) or 'no model'}"
    if info.version != __version__:
        return Check("service", Status.NOTE, found, f"its version differs from this client's, {__version__}")
    return Check("service", Status.OK, found)


_EPILOG = """\
Each line shows ok, note (it works, or is not needed) or missing (it is needed), and what to do next. The exit
status is 1 when something is missing.

examples:
  glassbox doctor                                      the base install and this machine
  glassbox doctor --for serve --for train              also everything that serving and training need
  glassbox doctor --url http://127.0.0.1:8000          also the service; its API key is read from GLASSBOX_API_KEY
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, examples and options."""
    parser.description, parser.epilog = "Check this machine, the installation and the service.", _EPILOG
    parser.add_argument(
        "--for",
        dest="uses",
        action="append",
        choices=["serve", "train"],
        default=[],
        help="what this machine is used for: what that needs must be installed; may be repeated",
    )
    parser.add_argument("--url", type=url, help="URL of a service that must be ready")
    parser.add_argument(
        "--timeout", type=positive_float, default=10.0, metavar="S", help="seconds for the service (default: 10)"
    )


def run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the table; return 1 when something needed is missing."""
    results = _checks(arguments)
    sys.stdout.write(table(results))
    return int(any(check.status is Status.MISSING for check in results))


def _checks(arguments: argparse.Namespace) -> list[Check]:
    serve, train = ("serve" in arguments.uses, "train" in arguments.uses)
    results = [
        base_install(),
        disk(Path.cwd()),
        memory(),
        shared_memory(),
        packages("service", needed=serve),
        packages("math", needed=False),
        packages("train", needed=train),
        openrlhf(needed=train),
        torch_device(needed=serve or train),
    ]
    if arguments.url is not None:
        results.append(service(arguments.url, arguments.timeout))
    return results


def table(results: Iterable[Check]) -> str:
    """One line a check, and below it what to do next."""
    lines = []
    for check in results:
        lines.append(f"{check.status:<8} {check.subject:<14} {check.found}\n")
        if check.next_step:
            lines.append(f"{'':<8} {'':<14} → {check.next_step}\n")
    return "".join(lines)
