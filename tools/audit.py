"""Audit the project: known vulnerabilities of the installed packages, secrets in files and history.

    packages beside this Python ─▶ pip-audit ─────────────────┐
    tracked files ──────────────▶ detect-secrets, baseline ───┼─▶ 0 clean, 1 findings, 3 a check was not run
    lines ever committed ───────▶ detect-secrets, baseline ───┘

    python -m tools.audit            run the checks
    python -m tools.audit --accept   add the secrets found to .secrets.baseline, after a person has reviewed them

Both tools are installed in `.venv-audit`, which keeps their dependencies out of the environment that is audited.
Each tool is first tried on something that it must find, because one without its database finds nothing either.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv-audit"
BASELINE = ROOT / ".secrets.baseline"
"""Reviewed findings, in the format of detect-secrets, those of files that exist only in the history included."""
PACKAGES = ["pip-audit==2.10.1", "detect-secrets==1.5.0"]
LIMIT_S = 300.0
"""Time limit of one command."""
MAX_LINE = 5_000
"""Longer lines of the history are truncated: they are data."""

VULNERABLE = "jinja2==2.10"
"""A package with advisories since 2019."""
PRIVATE_KEY = "-----BEGIN " + "RSA PRIVATE KEY-----"
"""A secret that detect-secrets must find."""


class NotRunError(Exception):
    """A check could not be run; the message gives the reason."""


@dataclass(frozen=True)
class Secret:
    """A possible secret; the secret itself is never kept."""

    path: str
    line: int
    kind: str
    hash: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}"


def main() -> int:
    """Run the checks, or accept the secrets that they find; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="add the secrets found to .secrets.baseline")
    if parser.parse_args().accept:
        accept(list(dict.fromkeys([*secrets_in_files(), *secrets_in_history()])))
        return 0
    return check()


def check() -> int:
    """Run every check and print its findings; the exit status."""
    checks: list[tuple[str, Callable[[], Sequence[object]]]] = [
        ("vulnerabilities of installed packages", vulnerabilities),
        ("secrets in tracked files", secrets_in_files),
        ("secrets in the history", secrets_in_history),
    ]
    status = 0
    for name, run_check in checks:
        try:
            findings = run_check()
        except NotRunError as exc:
            _print(f"{name}: *not run*: {exc}")
            status = status or 3
            continue
        _print(f"{name}: {f'{len(findings)} found' if findings else 'none found'}")
        for line in findings:
            _print(f"  {line}")
        status = 1 if findings else status
    return status


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(command: Sequence[str | Path], accepted: Sequence[int] = (0,), folder: Path = ROOT) -> str:
    """Standard output of `command`. Raises NotRunError when it fails, cannot start or times out."""
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=folder, capture_output=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotRunError(str(exc)) from exc
    if done.returncode not in accepted:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NotRunError(f"{Path(command[0]).name} ended with status {done.returncode}: {' '.join(last)}")
    return done.stdout.decode(errors="replace")


def tool(name: str) -> Path:
    """A program of `.venv-audit`, which is created when it is missing."""
    program = TOOLS / "bin" / name
    if not program.exists():
        run([sys.executable, "-m", "venv", TOOLS])
        run([TOOLS / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES])
    return program


def parse(report: str, program: str) -> Any:
    """A tool's JSON report. Raises NotRunError when it is not JSON."""
    try:
        return json.loads(report)
    except ValueError as exc:
        raise NotRunError(f"{program} printed no report") from exc


# Vulnerabilities ------------------------------------------------------------------------------------------------


def vulnerabilities() -> list[str]:
    """One line for each known vulnerability of a package beside this Python."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as control:
        control.write(f"{VULNERABLE}\n")
        control.flush()
        known, _ = pip_audit("--requirement", control.name, "--no-deps", "--disable-pip")
    if not known:
        raise NotRunError(f"the advisory database has no entry for {VULNERABLE}, so it is incomplete")
    found, skipped = pip_audit("--path", sysconfig.get_paths()["purelib"])
    if skipped:
        _print(f"  not audited, unknown to the database: {', '.join(skipped)}")
    return found


def pip_audit(*what: str) -> tuple[list[str], list[str]]:
    """Findings, and the packages that the database does not know."""
    command: list[str | Path] = [tool("pip-audit"), "--progress-spinner", "off", "--format", "json", *what]
    packages: list[dict[str, Any]] = parse(run(command, accepted=(0, 1)), "pip-audit")["dependencies"]
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {flaw['fix_versions'] or 'no version'}"
        for package in packages
        for flaw in package.get("vulns", [])
    ]
    return found, [package["name"] for package in packages if "skip_reason" in package]


# Secrets --------------------------------------------------------------------------------------------------------


def secrets_in_files() -> list[Secret]:
    """Possible secrets in tracked files."""
    tracked = [path for path in run(["git", "ls-files", "-z"]).split("\0") if path and path != BASELINE.name]
    if not tracked:
        raise NotRunError("git lists no files here")
    return new_secrets(ROOT, tracked)


def secrets_in_history() -> list[Secret]:
    """Possible secrets in lines that were ever added."""
    log = run(["git", "log", "--all", "--patch", "--unified=0", "--no-color", "--format="])
    lines = added_lines(log)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "added.txt").write_text("\n".join(lines), encoding="utf-8")
        found = new_secrets(Path(folder), ["added.txt"])
    places = list(lines.values())
    return [Secret(*places[secret.line - 1], secret.kind, secret.hash) for secret in found]


def added_lines(log: str) -> dict[str, tuple[str, int]]:
    """Each line that `git log --patch --unified=0` reports as added, and its path and line number then.

    Those of the baseline are left out: they are hashes of reviewed findings.
    """
    lines: dict[str, tuple[str, int]] = {}
    path, number = "", 0
    for line in log.splitlines():
        if line.startswith("+++ "):
            path = line.removeprefix("+++ b/")
        elif hunk := re.match(r"@@ -\S+ \+(\d+)", line):
            number = int(hunk[1])
        elif line.startswith("+"):
            if path != BASELINE.name:
                lines.setdefault(line[1 : MAX_LINE + 1], (path, number))
            number += 1
    return lines


def new_secrets(folder: Path, paths: Sequence[str]) -> list[Secret]:
    """Possible secrets that are not in the baseline.

    Raises:
        NotRunError: detect-secrets fails, or does not find a private key.
    """
    with tempfile.TemporaryDirectory() as control:
        Path(control, "key.txt").write_text(PRIVATE_KEY)
        if not _scan(Path(control), ["key.txt"]):
            raise NotRunError("detect-secrets does not find a private key")
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))["results"].values()
    reviewed = {entry["hashed_secret"] for entries in baseline for entry in entries}
    return [secret for secret in _scan(folder, paths) if secret.hash not in reviewed]


def _scan(folder: Path, paths: Sequence[str]) -> list[Secret]:
    command: list[str | Path] = [tool("detect-secrets"), "scan", "--no-verify", "--all-files", *paths]
    results: dict[str, list[dict[str, Any]]] = parse(run(command, folder=folder), "detect-secrets")["results"]
    return [
        Secret(path, entry["line_number"], entry["type"], entry["hashed_secret"])
        for path, entries in results.items()
        for entry in entries
    ]


def accept(secrets: Sequence[Secret]) -> None:
    """Add `secrets` to the baseline as reviewed."""
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    for secret in secrets:
        entry = {"type": secret.kind, "filename": secret.path, "hashed_secret": secret.hash}
        entries = baseline["results"].setdefault(secret.path, [])
        entries.append(entry | {"is_verified": False, "line_number": secret.line, "is_secret": False})
        _print(f"accepted: {secret}")
    BASELINE.write_text(f"{json.dumps(baseline, indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
