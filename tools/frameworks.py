"""Run the contract tests of training frameworks, each in an environment with the framework's packages.

    python -m tools.frameworks [NAME …] [--build] [--lock] [--delete]

    tests/frameworks/environments.toml ─▶ .venv-frameworks/NAME ─▶ pytest tests/frameworks/test_….py, one by one

NAME is an environment or a test file; without one, all run. --build: only install. --lock: also write the versions
of all installed packages to tests/frameworks/constraints, which later installations keep. --delete: delete each
environment after its tests, so that the disk holds one at a time. An environment is installed when its packages
change; its modules are compiled by the tests that import them. The service runs in the environment of this
command. An environment whose Python is absent is not run, and the last lines say so; the exit status is 1 if NAME
asked for it. A file in which no test passed has failed.

Variables: GLASSBOX_FRAMEWORKS_DIR, the folder of the environments; TORCH_INDEX_URL, the package index of torch;
GLASSBOX_AWAY_S, seconds for which the service is away in the tests.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tools.framework_outcomes import Outcome, read_report

ROOT = Path(__file__).resolve().parent.parent
TESTS = Path("tests/frameworks")
FOLDER = Path(os.environ.get("GLASSBOX_FRAMEWORKS_DIR") or ROOT / ".venv-frameworks")
TEST_PACKAGES = ("pytest>=8.3", "httpx>=0.27,<1", "pydantic>=2.9")
"""What the tests and the client import, in every environment."""
FILE_S = 900
"""Seconds for one test file."""
AWAY = "GLASSBOX_AWAY_S"
"""Variable with the seconds for which the service is away in the tests."""


class BuildError(Exception):
    """An environment cannot be installed."""


@dataclass(frozen=True)
class Environment:
    """One table of environments.toml."""

    name: str
    python: str
    packages: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> Path:
        """The stamp of the installation."""
        return self.folder / "packages.txt"

    @property
    def constraints(self) -> Path:
        """Versions of the packages that others depend on."""
        return ROOT / TESTS / "constraints" / f"{self.name}.txt"

    def stamp(self) -> str:
        """What an installation depends on."""
        locked = self.constraints.read_text(encoding="utf-8") if self.constraints.is_file() else ""
        return "\n".join([self.python, *self.packages, *TEST_PACKAGES, locked])

    def steps(self) -> Iterator[list[str]]:
        """The arguments of `pip install`, one list a call."""
        locked = ["-c", str(self.constraints)] if self.constraints.is_file() else []
        torch = [package for package in self.packages if re.match(r"torch\b[^-]", package)]
        if torch:
            index = os.environ.get("TORCH_INDEX_URL")
            yield [*torch, *(["--index-url", index] if index else [])]
        # torch again, so that its version is a constraint of the others
        yield [*self.packages, *TEST_PACKAGES, *locked]


def read_environments(path: Path = ROOT / TESTS / "environments.toml") -> list[Environment]:
    """The environments, in the order of the file."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Environment(name, table["python"], tuple(table["packages"]), tuple(table["tests"]))
        for name, table in tables.items()
    ]


def selected(environments: Sequence[Environment], names: Sequence[str]) -> list[Environment]:
    """The environments to run, each with the tests to run. Raises SystemExit for an unknown name."""
    known = {name for one in environments for name in (one.name, *one.tests)}
    if unknown := set(names) - known:
        raise SystemExit(f"no environment or test file {', '.join(sorted(unknown))}; there are {sorted(known)}")
    found = []
    for one in environments:
        tests = one.tests if not names or one.name in names else tuple(t for t in one.tests if t in names)
        if tests or one.name in names:
            found.append(Environment(one.name, one.python, one.packages, tests))
    return found


def find_python(version: str) -> str | None:
    """An interpreter of `version`: this one, one on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    installed = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    for candidate in (sys.executable, shutil.which(f"python{version}"), *reversed(installed)):
        if candidate and _version(candidate) == version:
            return str(candidate)
    return None


def _version(python: str | Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def build(environment: Environment, python: str) -> None:
    """Install the environment, unless its packages are installed already. Raises BuildError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = environment.stamp()
    with (FOLDER / f"{environment.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one process at a time installs an environment
        if environment.installed.is_file() and environment.installed.read_text(encoding="utf-8") == wanted:
            return
        started = time.monotonic()
        sys.stdout.write(f"installing environment {environment.name}: {' '.join(environment.packages)} … ")
        sys.stdout.flush()
        if not environment.interpreter.exists():
            _call([python, "-m", "venv", str(environment.folder)])
        for arguments in environment.steps():
            pip = [str(environment.interpreter), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            _call([*pip, "--no-compile", *arguments])  # the tests import few of the modules
        environment.installed.write_text(wanted, encoding="utf-8")
        sys.stdout.write(f"{time.monotonic() - started:.0f} s\n")


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"failed: {' '.join(command)}\n{done.stdout}{done.stderr}")


def lock(environment: Environment) -> None:
    """Write the installed versions as constraints; without the local part that names a build, as in 2.13.0+cpu."""
    command = [str(environment.interpreter), "-m", "pip", "--disable-pip-version-check", "freeze"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.partition("+")[0] for line in done.stdout.splitlines() if re.match(r"[\w.-]+==", line)]
    environment.constraints.parent.mkdir(exist_ok=True)
    environment.constraints.write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment.installed.write_text(environment.stamp(), encoding="utf-8")


def versions(environment: Environment) -> str:
    """Name and installed version of the environment's packages."""
    names = [re.split(r"[<>=!~\[ ]", package)[0] for package in environment.packages]
    code = "import sys; from importlib.metadata import version; print(*(version(name) for name in sys.argv[1:]))"
    command = [str(environment.interpreter), "-c", code, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1]
    return ", ".join(f"{name} {version}" for name, version in zip(names, done.stdout.split(), strict=True))


def run_file(environment: Environment, file: str) -> Outcome:
    """Run one test file in the environment."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", f"--confcutdir={TESTS}", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [str(environment.interpreter), "-m", "pytest", *options, str(TESTS / file)]
        status = _run(command, _variables(environment))
        seconds = time.monotonic() - started
        note = f"did not end within {FILE_S} s" if status is None else f"pytest ended with status {status}"
        if report.is_file():
            outcome = read_report(report, Outcome(environment.name, file, seconds=seconds))
            if outcome.failed or status == 0:
                return outcome
            note += ", after its report"
        return Outcome(environment.name, file, failed=1, seconds=seconds, note=note)


def _variables(environment: Environment) -> dict[str, str]:
    """The environment variables of a test: none of the service's or an adapter's settings.

    Modules are compiled when they are first imported, so that must be allowed.
    """
    without = "GLASSBOX_", "PYTHONDONTWRITEBYTECODE"
    kept = {name: value for name, value in os.environ.items() if name == AWAY or not name.startswith(without)}
    return kept | {
        "PATH": f"{environment.folder / 'bin'}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": str(ROOT / "client"),
        "GLASSBOX_SERVICE_PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "passive",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # frameworks bring plug-ins, which import them before the tests
    }


def _run(command: list[str], variables: dict[str, str]) -> int | None:
    """The exit status; None after FILE_S. Processes that the command leaves behind are ended."""
    process = subprocess.Popen(command, cwd=ROOT, env=variables, start_new_session=True)
    try:
        return process.wait(FILE_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def print_table(outcomes: Sequence[Outcome], installed: dict[str, str], absent: Sequence[Environment]) -> None:
    """A row a file, the versions of each environment, the sums, and what was not run."""
    sys.stdout.write(f"\n{'environment':<12} {'test':<28} passed failed skipped seconds\n")
    for one in outcomes:
        counts = f"{one.passed:6} {one.failed:6} {one.skipped:7} {one.seconds:7.0f}"
        sys.stdout.write(f"{one.environment:<12} {one.file:<28} {counts}  {one.note}".rstrip() + "\n")
    for name, packages in installed.items():
        sys.stdout.write(f"{name}: {packages}\n")
    sums = (f"{sum(getattr(one, name) for one in outcomes)} {name}" for name in ("passed", "failed", "skipped"))
    sys.stdout.write(", ".join(sums) + "\n")
    for left in absent:
        sys.stdout.write(f"NOT RUN: {left.name} ({', '.join(left.packages)}): there is no Python {left.python}\n")


def run_environment(
    one: Environment, python: str, options: argparse.Namespace, installed: dict[str, str]
) -> list[Outcome]:
    """Install an environment, add its versions to `installed`, run its tests; `--delete` holds whatever fails."""
    try:
        build(one, python)
        installed[one.name] = versions(one)
        if options.lock:
            lock(one)
        return [] if options.build else [run_file(one, file) for file in one.tests]
    except BuildError as exc:
        return [Outcome(one.name, "installation", failed=1, note=str(exc))]
    finally:
        if options.delete:
            shutil.rmtree(one.folder, ignore_errors=True)  # it may not exist


def run_all(environments: Sequence[Environment], options: argparse.Namespace) -> int:
    """Install, run, print; the exit status is 1 when a test failed, or an environment that was named, or all, lack
    their Python."""
    outcomes: list[Outcome] = []
    installed: dict[str, str] = {}
    pythons = [(one, find_python(one.python)) for one in environments]
    for one, python in pythons:
        outcomes += run_environment(one, python, options, installed) if python else []
    absent = [one for one, python in pythons if not python]
    print_table(outcomes, installed, absent)
    is_missing = bool(absent and options.names) or len(absent) == len(pythons)
    return 1 if is_missing or any(one.failed for one in outcomes) else 0


def main() -> int:
    """Run the environments that the arguments name; the exit status of `run_all`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="an environment or a test file")
    parser.add_argument("--build", action="store_true", help="only install the environments")
    parser.add_argument("--lock", action="store_true", help="write the installed versions as constraints")
    parser.add_argument("--delete", action="store_true", help="delete each environment after its tests")
    options = parser.parse_args()
    return run_all(selected(read_environments(), options.names), options)


if __name__ == "__main__":
    sys.exit(main())
