"""What is known against this project: vulnerabilities in what is installed, secrets in what is committed.

    .venv ───────────────▶ pip-audit ──────┐
    tracked files ───────▶ detect-secrets ─┼─▶ clean 0, findings 1, *not run* 3
    the history's lines ─▶ detect-secrets ─┘

python -m tools.audit; the tools live in an environment of their own, `.venv-audit`. Each check is first tried on
something that it must find: a tool whose database is out of reach finds nothing either, and that is no result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv-audit"
PACKAGES = ["pip-audit==2.10.1", "detect-secrets==1.5.0"]
LIMIT_S = 300.0
"""Seconds for one tool."""
MAX_LINE = 5_000
"""Characters of a line that are looked at: what is longer is data."""

VULNERABLE = "jinja2==2.10"
"""Has had advisories since 2019."""
PLANTED = "-----BEGIN " + "RSA PRIVATE KEY-----"

N_HASH = 6
STAND_INS = {
    "3c2349": "README: a recipe's hash",
    "a25080": "deploy: the name of a secret of Kubernetes",
    "3c3b27": "docs: where a key stands in a URL",
    "dd65c1": "docs: the same",
    "bed365": "a model's name",
    "76cb94": "a model's revision",
    "78da85": "tests: the variable that names the file of keys",
    "fcbd0b": "the variable that holds the client's key, by name",
    "665b1e": "the setting that holds the service's key, by name",
    "02ba19": "tests: a key that opens nothing",
    "591b53": "tests: a key that opens nothing",
    "69179f": "tests: a key that opens nothing",
    "719491": "tests: a key that opens nothing",
    "b2e30c": "tests: a key that opens nothing",
    "bee687": "tests: a key that opens nothing",
    "e60b38": "tests: a key that opens nothing",
    "fef341": "tests: a key that opens nothing",
}
"""What looks like a secret and is none, by the beginning of its SHA-1: seen and judged by a person."""


class NotRunError(Exception):
    """A check could not be made; the message says why."""


def main() -> int:
    """Make every check, say what each found; the exit status."""
    checks: list[tuple[str, Callable[[], list[str]]]] = [
        ("vulnerabilities of what is installed", vulnerabilities),
        ("secrets in tracked files", secrets_in_files),
        ("secrets in the history", secrets_in_history),
    ]
    worst = 0
    for name, check in checks:
        try:
            found = check()
        except NotRunError as exc:
            say(f"{name}: *not run*: {exc}")
            worst = worst or 3
            continue
        say(f"{name}: {f'{len(found)} found' if found else 'none known'}")
        for line in found:
            say(f"  {line}")
        worst = 1 if found else worst
    return worst


def say(line: str) -> None:
    """One line of the report."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(command: Sequence[str | Path], good: Sequence[int] = (0,), folder: Path = ROOT) -> str:
    """Standard output of `command`. Raises NotRunError when it cannot run, takes too long or fails otherwise."""
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=folder, capture_output=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotRunError(str(exc)) from exc
    if done.returncode not in good:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NotRunError(f"{Path(command[0]).name} ended with {done.returncode}: {' '.join(last)}")
    return done.stdout.decode(errors="replace")


def tool(name: str) -> Path:
    """A program of the tools' environment, which is made when it is not there."""
    program = TOOLS / "bin" / name
    if not program.exists():
        run([sys.executable, "-m", "venv", TOOLS])
        run([TOOLS / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES])
    return program


def parsed(report: str, program: str) -> Any:
    """A tool's JSON. Raises NotRunError for anything else: it ended before it had looked."""
    try:
        return json.loads(report)
    except ValueError as exc:
        raise NotRunError(f"{program} gave no report") from exc


# Vulnerabilities ------------------------------------------------------------------------------------------------


def vulnerabilities() -> list[str]:
    """One line for each known vulnerability of a package beside the running Python."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as control:
        control.write(f"{VULNERABLE}\n")
        control.flush()
        known, _ = pip_audit("--requirement", control.name, "--no-deps", "--disable-pip")
    if not known:
        raise NotRunError(f"the database knows nothing against {VULNERABLE}, so it is out of reach or empty")
    found, skipped = pip_audit("--path", sysconfig.get_paths()["purelib"])
    if skipped:
        say(f"  not judged, the index does not know them: {', '.join(skipped)}")
    return found


def pip_audit(*what: str) -> tuple[list[str], list[str]]:
    """Findings, and the packages that the database does not know."""
    report = run([tool("pip-audit"), "--progress-spinner", "off", "--format", "json", *what], good=(0, 1))
    packages: list[dict[str, Any]] = parsed(report, "pip-audit")["dependencies"]
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {flaw['fix_versions'] or 'no version'}"
        for package in packages
        for flaw in package.get("vulns", [])
    ]
    return found, [package["name"] for package in packages if "skip_reason" in package]


# Secrets --------------------------------------------------------------------------------------------------------


def secrets_in_files() -> list[str]:
    """PATH:LINE and kind of whatever looks like a secret in a tracked file."""
    scan_planted()
    tracked = [path for path in run(["git", "ls-files", "-z"]).split("\0") if path]
    if not tracked:
        raise NotRunError("git names no file here")
    return [f"{path}:{line}: {kind}" for path, line, kind in scan(ROOT, "--all-files", *tracked)]


def secrets_in_history() -> list[str]:
    """Commit, path and kind of whatever looks like a secret in a line that was ever added."""
    scan_planted()
    lines = added_lines(run(["git", "log", "--all", "--patch", "--unified=0", "--no-color", "--format=commit %h"]))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "added.txt").write_text("\n".join(lines), encoding="utf-8")
        found = scan(Path(folder), "--all-files", "added.txt")
    places = list(lines.values())
    return [f"{places[line - 1]}: {kind}" for _, line, kind in found]


def added_lines(log: str) -> dict[str, str]:
    """Each line that `git log --patch` says was added, and where it first appears in the log."""
    lines: dict[str, str] = {}
    commit = path = ""
    for line in log.splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line.startswith("+++ "):
            path = line.removeprefix("+++ b/")
        elif line.startswith("+"):
            lines.setdefault(line[1 : MAX_LINE + 1], f"{commit} {path}")
    return lines


def scan_planted() -> None:
    """Raises NotRunError unless the scanner finds a secret that lies there to be found."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "planted.txt").write_text(PLANTED)
        if not scan(Path(folder), "--all-files", "planted.txt"):
            raise NotRunError("the scanner does not find a private key that was planted for it")


def scan(folder: Path, *what: str) -> list[tuple[str, int, str]]:
    """(path, line, kind) of what detect-secrets finds, stand-ins left out; never the secret itself."""
    report = parsed(run([tool("detect-secrets"), "scan", "--no-verify", *what], folder=folder), "detect-secrets")
    return [
        (path, finding["line_number"], finding["type"])
        for path, findings in report["results"].items()
        for finding in findings
        if finding["hashed_secret"][:N_HASH] not in STAND_INS
    ]


if __name__ == "__main__":
    sys.exit(main())
